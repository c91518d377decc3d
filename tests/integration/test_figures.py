"""The figures that the product promises, measured again: real digits, the real stages, the default seed.

Bounds are below what docs/results.md reports for this seed, so that another CPU's rounding does not break them.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from workers.context import Output
from workers.stages._local import run_stage

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def made() -> dict[str, Output]:
    """Models of MNIST-5k with every default: 2 epochs, N = 32, 8 deletions of one sample."""
    torch.set_num_threads(1)
    models = run_stage("pretrain", {})
    assert json.loads(models["METRICS"].data)["test_accuracy"] >= 0.96
    models |= run_stage("train", models)
    return models | run_stage("unlearn", models, "gradient_ascent")


def evaluated(made: dict[str, Output], attack: str) -> dict[str, Any]:
    found = run_stage("attack", made, attack)
    evaluation: dict[str, Any] = json.loads(run_stage("evaluate", made | found, test_samples=200)["EVALUATION"].data)
    return evaluation


def test_a_forgotten_digit_is_read_back_and_identified(made: dict[str, Output]) -> None:
    evaluation = evaluated(made, "feature_recovery")
    psnr, ranks = evaluation["metrics"]["psnr"], evaluation["identification"]
    assert psnr["n"] == 8
    assert psnr["mean"] >= 18
    assert psnr["median"] >= 16
    assert psnr["null_name"] == "class_mean"
    assert psnr["gain"]["mean"] >= 6
    assert ranks["decoys"] == 100
    assert ranks["rank_1"] >= 6


def test_its_class_is_told_from_the_last_layer(made: dict[str, Output]) -> None:
    labels = evaluated(made, "label_inference")["metrics"]["label_accuracy"]
    assert sum(labels["values"]) >= 7
