"""An attacker who compares deletions, through the stages: what the threat model says, which
baseline stands beside it."""

from __future__ import annotations

import json

import pytest

from shared.errors import InvalidRequest
from shared.ml.networks import read_networks
from shared.ml.tensors import read_tensors, write_tensors
from tests.support.tiny_chain import parse_output, run_chain
from workers.context import StageOutput
from workers.local import run_stage

TEN_EPOCHS = {"epochs": 10, "lr": 1e-2, "batch_size": 32, "momentum": 0.9, "weight_decay": 5e-4}
FILTERED = {"target": "filtered", "iterations": 80}


def test_fine_tuning_leaks_to_one_who_compares_deletions_and_the_threat_model_says_so() -> None:
    made = run_chain("fine_tune", deletions=6, **TEN_EPOCHS)
    plain = made | run_stage("attack", made, "feature_recovery", iterations=80)
    compared = made | run_stage("attack", made, "feature_recovery", controls=2, **FILTERED)
    before, after = (
        parse_output(run_stage("evaluate", m, decoys=20)["EVALUATION"]) for m in (plain, compared)
    )
    assert "released_models" not in before["threat_model"]
    assert after["threat_model"]["released_models"] == 6
    assert after["threat_model"]["params"]["target"] == "filtered"
    assert after["identification"]["rank_1"] > before["identification"]["rank_1"]
    assert after["metrics"]["psnr"]["mean"] > before["metrics"]["psnr"]["mean"] + 2
    for evaluation in (before, after):  # the same images, ranked by another direction
        assert "nearest_public" in evaluation["metrics"]["psnr"]["baselines"]
    nearest = [e["metrics"]["psnr"]["baseline_values"]["nearest_public"] for e in (before, after)]
    assert nearest[0] != nearest[1]


def test_labels_are_read_off_what_is_a_deletions_own() -> None:
    made = run_chain("fine_tune", deletions=6, **TEN_EPOCHS)
    truth = parse_output(made["LABELS"])["labels"]
    raw, own = (
        parse_output(run_stage("attack", made, "label_inference", target=t)["ANSWERS"])
        for t in ("raw", "filtered")
    )
    right = [
        sum(a == b for a, b in zip(answers["labels"], truth, strict=True)) for answers in (raw, own)
    ]
    assert right[1] > right[0]
    assert own["threat_model"]["released_models"] == 6
    assert "released_models" not in raw["threat_model"]


def test_successive_deletions_have_no_model_in_common() -> None:
    made = run_chain("fine_tune", successive=True)
    assert read_networks(made["ORIGINAL"].data, "ORIGINAL").count == 3
    with pytest.raises(InvalidRequest, match="not successive") as refused:
        run_stage("attack", made, "feature_recovery", **FILTERED)
    assert refused.value.field == "params.target"


@pytest.mark.parametrize(
    "params", [{"target": "sideways"}, {"evaluation_point": 2}, {"evaluation_point": "x"}]
)
def test_a_reconstruction_that_says_nonsense_of_its_aim_is_refused(
    params: dict[str, object],
) -> None:
    made = run_chain("fine_tune")
    found = run_stage("attack", made, "feature_recovery", **FILTERED)
    tensors, about = read_tensors(found["RECONSTRUCTION"].data, "RECONSTRUCTION")
    about["threat_model"]["params"] = params
    spoiled = made | {
        "RECONSTRUCTION": StageOutput(write_tensors(tensors, json.loads(json.dumps(about))))
    }
    with pytest.raises(InvalidRequest, match="RECONSTRUCTION: params") as refused:
        run_stage("evaluate", spoiled, decoys=5)
    assert refused.value.field == "inputs.RECONSTRUCTION"
