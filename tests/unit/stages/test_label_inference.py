"""Deletions of classes: the attacker is told that it is one class, names one, and is scored by
class."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.errors import InvalidRequest
from shared.ml.tensors import read_tensors
from tests.support.tiny_chain import DATA, MODEL, Outputs, parse_output
from workers.context import StageOutput
from workers.local import run_stage


def classes(method: str = "gradient_ascent", fraction: float = 1.0) -> Outputs:
    """Three classes of the four forgotten, of 3 samples each."""
    made = run_stage("pretrain", {}, dataset=DATA, model=MODEL)
    made |= run_stage("train", made, dataset=DATA, size=12, balanced=True)
    params: dict[str, Any] = {"steps": 1} if method == "gradient_ascent" else {}
    params |= {"forget": "class", "fraction": fraction, "deletions": 3}
    return made | run_stage("unlearn", made, method, **params)


@pytest.mark.parametrize(("fraction", "k"), [(0.01, 1), (0.1, 1), (0.5, 2), (1.0, 3)])
@pytest.mark.parametrize("attack", ["label_inference", "label_inference_black_box"])
def test_a_share_of_a_class_is_inferred_from_end_to_end(
    attack: str, fraction: float, k: int
) -> None:
    made = classes(fraction=fraction)
    assert parse_output(made["DELETION_SIZES"]) == {"N": 12, "k": k, "classes": 1}
    made |= run_stage("probe", made, max_queries=2000, resolution=3)
    made |= run_stage("attack", made, attack)
    said = parse_output(made["ANSWERS"])["labels"]
    assert [len(row) for row in said] == [1, 1, 1]
    found = parse_output(run_stage("evaluate", made)["EVALUATION"])
    true = [sorted(set(row)) for row in parse_output(made["LABELS"])["labels"]]
    assert found["answers"] == {"labels": said, "truth": true}
    scored = found["metrics"]["label_accuracy"]
    assert scored["values"] == [float(a == b) for a, b in zip(said, true, strict=True)]
    assert scored["baselines"]["uniform_guess"] == 0.25
    assert scored["mean"] == 1


def test_exact_unlearning_of_classes_is_answered_from_either_estimate() -> None:
    made = classes("retrain")
    for gradient_from in ("pair", "base", "either"):
        made |= run_stage("attack", made, "label_inference", gradient_from=gradient_from)
        assert [len(row) for row in parse_output(made["ANSWERS"])["labels"]] == [1, 1, 1]


def test_images_of_a_class_are_sought_for_the_one_class_that_was_read_off() -> None:
    made = classes(fraction=0.5)
    made |= run_stage("attack", made, "feature_recovery", labels="inferred", iterations=2)
    made |= run_stage("attack", made, "label_inference")
    said = [row * 2 for row in parse_output(made["ANSWERS"])["labels"]]
    evaluated = parse_output(run_stage("evaluate", made, decoys=5)["EVALUATION"])
    assert evaluated["attack"]["params"]["labels"] == "inferred"
    assert read_tensors(made["RECONSTRUCTION"].data, "RECONSTRUCTION")[0]["labels"].tolist() == said


def test_several_samples_that_may_be_of_any_class_are_answered_one_by_one() -> None:
    made = classes()
    made |= run_stage("unlearn", made, "gradient_ascent", deletions=3, size=2)
    assert parse_output(made["DELETION_SIZES"])["classes"] is None
    made |= run_stage("attack", made, "label_inference")
    assert [len(row) for row in parse_output(made["ANSWERS"])["labels"]] == [2, 2, 2]
    assert (
        parse_output(run_stage("evaluate", made)["EVALUATION"])["answers"]["truth"]
        == parse_output(made["LABELS"])["labels"]
    )


def test_answers_of_neither_shape_are_refused() -> None:
    made = classes()
    made["ANSWERS"] = StageOutput.of_json({"labels": [[0, 1]] * 3})
    with pytest.raises(InvalidRequest, match=r"shape \[3, 3\] or \[3, 1\]"):
        run_stage("evaluate", made)
    made["ANSWERS"] = StageOutput(json.dumps({"labels": [[0]] * 3}).encode())
    run_stage("evaluate", made)
