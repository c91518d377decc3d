"""What an evaluation carries besides scores: who did what, the answers, and the pictures the report shows."""

from __future__ import annotations

import torch

from shared.ml.tensors import read_tensors
from tests.support.tiny import body, chain
from workers.stages._local import run_stage


def test_it_says_what_was_done_and_by_whom() -> None:
    made = chain(lr=0.01)
    made |= run_stage("defend", made, "pruning", share=0.2)
    made["UNLEARNED"] = made["RELEASED"]
    made |= run_stage("attack", made, "feature_recovery", iterations=3)
    found = body(run_stage("evaluate", made, decoys=5)["EVALUATION"])
    assert found["unlearning"]["method"] == "gradient_ascent"
    assert found["unlearning"]["params"] == {"lr": 0.01, "steps": 1}
    assert found["unlearning"]["exact"] is False
    assert len(found["unlearning"]["weight_change"]) == 3
    assert found["defense"]["method"] == "pruning"
    assert found["defense"]["params"]["share"] == 0.2
    assert found["attack"]["method"] == "feature_recovery"
    assert found["attack"]["params"]["iterations"] == 3
    assert found["answers"] is None


def test_what_nobody_said_is_not_made_up() -> None:
    made = chain()
    made |= run_stage("attack", made, "label_inference")
    only = {role: made[role] for role in ("ANSWERS", "FORGET_SETS")}
    outputs = run_stage("evaluate", only)
    found = body(outputs["EVALUATION"])
    assert (found["unlearning"], found["defense"], found["utility"]) == (None, None, None)
    assert found["answers"]["labels"] == body(made["ANSWERS"])["labels"]
    assert found["answers"]["truth"] == body(made["LABELS"])["labels"]
    assert read_tensors(outputs["PICTURES"].data, "PICTURES") == ({}, {})


def test_pictures_show_truth_reconstruction_and_null_with_their_scores() -> None:
    made = chain(deletions=2, size=2)
    made |= run_stage("attack", made, "feature_recovery", iterations=20)
    outputs = run_stage("evaluate", made, decoys=5)
    images, about = read_tensors(outputs["PICTURES"].data, "PICTURES")
    found = body(outputs["EVALUATION"])
    assert {name: tuple(t.shape) for name, t in images.items()} == dict.fromkeys(
        ("truth", "reconstruction", "class_mean"), (4, 1, 9, 9)
    )
    for shown, told in (("reconstruction", "psnr"), ("class_mean", "null_psnr")):
        error = (images[shown] - images["truth"]).square().flatten(1).mean(1)
        torch.testing.assert_close(-10 * error.log10(), torch.tensor(about[told]), atol=1e-3, rtol=0)
    assert about["psnr"] == found["metrics"]["psnr"]["values"]
    assert about["ranks"] == found["identification"]["ranks"]
    assert about["labels"] == [label for row in body(made["LABELS"])["labels"] for label in row]
    assert {name: about[name] for name in ("attack", "seed", "unlearning")} == {
        name: found[name] for name in ("attack", "seed", "unlearning")
    }
