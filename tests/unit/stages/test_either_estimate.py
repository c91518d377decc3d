"""An attacker who does not know how the model was made to forget tries both estimates and looks
which one matches."""

from __future__ import annotations

import pytest
import torch

from shared.errors import JobFailed
from shared.ml.tensors import read_tensors
from tests.support.tiny_chain import Outputs, StopAtCheckpoint, parse_output, run_chain
from workers.local import run_stage


def recovered(
    made: Outputs, source: str, **params: object
) -> tuple[dict[str, torch.Tensor], list[str]]:
    found = run_stage(
        "attack", made, "feature_recovery", gradient_from=source, **{"iterations": 60} | params
    )
    tensors, about = read_tensors(found["RECONSTRUCTION"].data, "RECONSTRUCTION")
    return tensors, about["gradient_sources"]


def test_retraining_is_explained_from_the_base_and_as_well_as_if_that_were_known() -> None:
    made = run_chain("retrain")
    either, sources = recovered(made, "either")
    assert sources == ["base"] * 3
    known, _ = recovered(made, "base")
    for name, tensor in known.items():  # trials batched in another way round differently
        torch.testing.assert_close(either[name], tensor, rtol=0, atol=1e-5, msg=name)
    pair, sources = recovered(made, "pair")
    assert sources == ["pair"] * 3
    assert bool((pair["matching_loss"] > known["matching_loss"]).all())


def test_no_deletion_matches_worse_than_the_worse_of_the_two() -> None:
    made = run_chain("gradient_ascent")
    either, sources = recovered(made, "either")
    both = {source: recovered(made, source)[0]["matching_loss"] for source in ("pair", "base")}
    for deletion, source in enumerate(sources):
        torch.testing.assert_close(
            either["matching_loss"][deletion], both[source][deletion], rtol=0.1, atol=1e-3
        )  # trials batched in another way round differently


def test_it_needs_what_the_estimate_from_the_base_needs() -> None:
    made = run_chain("retrain")
    seen = parse_output(run_stage("attack", made, "label_inference")["ANSWERS"])["threat_model"][
        "observes"
    ]
    assert "BASE" not in seen
    found = run_stage("attack", made, "feature_recovery", gradient_from="either", iterations=2)
    observes = read_tensors(found["RECONSTRUCTION"].data, "x")[1]["threat_model"]["observes"]
    assert {"BASE", "DELETION_SIZES"} <= set(observes)


@pytest.mark.parametrize("stop", [4, 9, 12])  # before, at and after the choice (15 % of 60 steps)
def test_a_search_that_was_interrupted_goes_on_to_the_same_bytes(stop: int) -> None:
    made, hooks = run_chain("retrain"), StopAtCheckpoint(stop)
    params = {"gradient_from": "either", "iterations": 60, "restarts": 2}
    with pytest.raises(JobFailed):
        run_stage("attack", made, "feature_recovery", hooks=hooks, **params)
    resumed = run_stage("attack", made, "feature_recovery", hooks=hooks, **params)
    assert resumed == run_stage("attack", made, "feature_recovery", **params)
