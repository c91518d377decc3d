"""The record of unlearning says how many steps each deletion took, and why no more."""

from __future__ import annotations

from typing import Any

import pytest

from shared.ml.records import TrainingSet
from tests.support.tiny_chain import DATA, MODEL, Outputs, parse_output
from workers.local import run_stage


@pytest.fixture
def trained() -> Outputs:
    outputs = run_stage("pretrain", {}, dataset=DATA, model=MODEL)
    recipe = {"epochs": 40, "lr": 0.05, "batch_size": 4, "momentum": 0.5}
    return outputs | run_stage("train", outputs, dataset=DATA, size=12, **recipe)


def unlearned(trained: Outputs, method: str, **params: Any) -> Any:
    return parse_output(run_stage("unlearn", trained, method, deletions=3, **params)["UNLEARNING"])


def test_ascent_by_the_held_out_rule_and_as_asked_for(trained: Outputs) -> None:
    record = unlearned(trained, "gradient_ascent")
    assert record["params"]["steps"] is None
    assert len(record["stops"]) == 3
    for stop in record["stops"]:
        assert stop["reason"] in ("held_out_loss", "as_training")
        assert 1 <= stop["steps"] <= 120  # training took no more
    asked = unlearned(trained, "gradient_ascent", steps=2, lr=1e-3)
    assert asked["stops"] == [{"steps": 2, "reason": "asked_for"}] * 3


def test_methods_that_rewind_name_the_released_epoch_and_others_nothing(trained: Outputs) -> None:
    for method, per_epoch in (("neggrad_plus", {3}), ("scrub", {3, 4})):
        for stop in unlearned(trained, method, epochs=2)["stops"]:
            assert stop["reason"] == "closest_epoch"
            assert 0 < stop["steps"] <= 2 * max(per_epoch)
    assert unlearned(trained, "fine_tune", epochs=1)["stops"] is None
    assert unlearned(trained, "retrain")["stops"] is None


def test_held_out_samples_were_never_trained_on(trained: Outputs) -> None:
    training = TrainingSet.read(trained["TRAINING_SET"].data, "TRAINING_SET")
    split = training.load_train_split("TRAINING_SET")
    held_out = training.find_held_out(split.labels).tolist()
    assert held_out
    assert not {*held_out} & {*training.indices}
