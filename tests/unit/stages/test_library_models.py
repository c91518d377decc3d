"""A model of timm through a whole chain of stages: what the attack's record says of how it was
computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.tiny_chain import parse_output
from workers.local import run_stage

pytestmark = pytest.mark.slow

DATA = {"name": "npz", "params": {"path": "photographs.npz"}}


def write_photographs(folder: Path) -> None:
    draw = np.random.default_rng(0)
    labels = np.arange(200) % 4
    images = 0.7 * draw.random((4, 32, 32, 3))[labels] + 0.3 * draw.random((200, 32, 32, 3))
    np.savez(folder / "photographs.npz", images=images, labels=labels)


@pytest.mark.parametrize(
    ("name", "batch_size", "image_by_image"),
    [
        ("test_resnet", 32, None),
        ("test_vit", 1, "its layers cannot share passes (NotImplementedError)"),
    ],
)
def test_a_model_by_name_is_trained_unlearned_attacked_and_scored(
    data_root: Path, name: str, batch_size: int, image_by_image: str | None
) -> None:
    write_photographs(data_root)
    model = {"name": "timm", "params": {"name": name}}
    made = run_stage("pretrain", {}, dataset=DATA, model=model, epochs=1)
    made |= run_stage("train", made, dataset=DATA, size=12, epochs=1)
    made |= run_stage("unlearn", made, "gradient_ascent", deletions=2, steps=1)
    made |= run_stage("attack", made, "feature_recovery", iterations=2)
    threat_model = parse_output(run_stage("evaluate", made)["EVALUATION"])["threat_model"]
    assert threat_model["batch_size"] == batch_size
    assert threat_model.get("computed_image_by_image") == image_by_image
