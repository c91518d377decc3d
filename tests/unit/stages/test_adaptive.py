"""An attacker who knows the defense, through the stages: what it is given, what it gains, what its
baseline knows."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from shared.errors import InvalidRequest
from shared.ml.splits import draw_default_pool
from shared.ml.tensors import read_tensors
from tests.support.tiny_chain import DATA, MODEL, Outputs, parse_output, run_chain
from workers.context import StageOutput
from workers.local import run_stage

pytestmark = pytest.mark.slow

STEPS: dict[str, Any] = {"iterations": 60}


def released(defense: str, made: Outputs | None = None, **params: Any) -> Outputs:
    made = made or run_chain()
    made |= run_stage("defend", made, defense, **params)
    return made | {"UNLEARNED": made["RELEASED"]}


def attacked(
    made: Outputs, **params: Any
) -> tuple[dict[str, torch.Tensor], dict[str, Any], Outputs]:
    result = run_stage("attack", made, "feature_recovery", **STEPS, **params)
    return *read_tensors(result["RECONSTRUCTION"].data, "x"), result


def test_who_knows_what_was_pruned_explains_more_of_the_change() -> None:
    made = released("pruning", share=0.6)
    plain, known = attacked(made)[0], attacked(made, adaptive=True)[0]
    assert known["matching_loss"].mean() < plain["matching_loss"].mean() - 0.5


@pytest.mark.parametrize(
    ("defense", "params"), [("pruning", {"share": 0.6}), ("obfuscation", {"noise": 1e-3})]
)
def test_the_threat_model_says_who_knows_the_defense(defense: str, params: dict[str, Any]) -> None:
    made = released(defense, **params)
    plain, _, _ = attacked(made)
    known, about, result = attacked(made, adaptive=True)
    assert not torch.equal(plain["images"], known["images"])
    assert {*about["threat_model"]["observes"]} >= {"DEFENSE", "PUBLIC"}
    assert attacked(made, adaptive=True)[2] == result


def test_without_an_adaptive_view_an_adaptive_attacker_sees_what_all_see() -> None:
    made = released("none")
    plain, known = attacked(made)[0], attacked(made, adaptive=True)[0]
    assert torch.equal(plain["images"], known["images"])


def test_classes_are_inferred_adaptively_too() -> None:
    """Fine-tuning moves the last bias by what all samples have in common, which public ones have as
    well."""
    made = released("fine_tune", epochs=3, lr=0.02)
    plain, known = (
        parse_output(run_stage("attack", made, "label_inference", adaptive=adaptive)["ANSWERS"])
        for adaptive in (False, True)
    )
    assert plain["scores"] != known["scores"]
    assert known["threat_model"]["params"]["adaptive"] is True


@pytest.mark.parametrize("missing", ["DEFENSE", "PUBLIC"])
def test_it_must_be_given_what_it_knows(missing: str) -> None:
    made = {
        role: output for role, output in released("pruning", share=0.5).items() if role != missing
    }
    with pytest.raises(InvalidRequest, match=missing):
        attacked(made, adaptive=True)


@pytest.mark.parametrize(
    ("told", "word"),
    [
        ({"method": "nothing", "params": {}}, "unknown defense"),
        ({"method": "pruning", "params": {"share": 2}}, "share"),
        ({"params": {}}, "method"),
    ],
)
def test_a_defense_that_is_none_is_refused(told: dict[str, Any], word: str) -> None:
    made = released("pruning", share=0.5) | {"DEFENSE": StageOutput.of_json(told)}
    with pytest.raises(InvalidRequest, match=word):
        attacked(made, adaptive=True)


def test_its_baseline_is_adaptive_too() -> None:
    """Which public image explains the weights best depends on which of them one trusts."""
    made = released("pruning", share=0.6)
    of_all = made | attacked(made, adaptive=True)[2]
    roles = ("RECONSTRUCTION", "FORGET_SETS", "ORIGINAL", "UNLEARNED", "DEFENSE", "PUBLIC")
    score = parse_output(run_stage("evaluate", {r: of_all[r] for r in roles})["EVALUATION"])[
        "metrics"
    ]["psnr"]
    other = made | attacked(made)[2]
    plain = parse_output(run_stage("evaluate", {r: other[r] for r in roles})["EVALUATION"])[
        "metrics"
    ]["psnr"]
    assert score["baseline_values"]["nearest_public"] != plain["baseline_values"]["nearest_public"]
    without = parse_output(
        run_stage("evaluate", {r: of_all[r] for r in roles if r != "PUBLIC"})["EVALUATION"]
    )
    assert "nearest_public" not in without["metrics"]["psnr"]["baselines"]


def test_the_member_that_was_trained_again_is_found_behind_pruning() -> None:
    model = {"name": "convnet", "params": {"width": 2}}
    made = run_stage("pretrain", {}, dataset=DATA, model=model, epochs=1)
    made |= run_stage("train", made, dataset=DATA, size=12, shards=2)
    made |= run_stage("unlearn", made, "sisa", deletions=3)
    made = released("pruning", made, share=0.3)
    images = attacked(made, adaptive=True)[0]["images"]
    assert images.shape == (3, 1, 1, 9, 9)
    assert bool(torch.isfinite(images).all())


@pytest.mark.parametrize(("size", "sets"), [(6, [6, 6]), (7, [7]), (12, [8]), (20, [])])
def test_public_sets_are_drawn_from_what_the_training_set_leaves_of_the_pool(
    size: int, sets: list[int]
) -> None:
    made = run_stage("pretrain", {}, dataset=DATA, model=MODEL, epochs=1)
    made |= run_stage("train", made, dataset=DATA, size=size)
    public, training = parse_output(made["PUBLIC"]), parse_output(made["TRAINING_SET"])
    assert [len(indices) for indices in public["sets"]] == sets
    drawn = [index for indices in public["sets"] for index in indices]
    assert len({*drawn, *training["indices"]}) == len(drawn) + size
    assert {*drawn} <= {*draw_default_pool(160).tolist()}
