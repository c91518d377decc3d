"""Attacks that only ask: probes are found by queries, counted, capped, resumable; the answers come from them."""

from __future__ import annotations

import pytest
import torch

from shared.errors import InvalidRequest, JobFailed
from shared.ml.attacks._oracle import API, Oracle
from shared.ml.networks import read_networks
from shared.ml.tensors import read_tensors, write_tensors
from tests.support.tiny import Outputs, Stopping, body, chain
from workers.context import Output
from workers.stages._local import run_stage

FEW = {"per_class": 4, "resolution": 3, "directions": 9, "max_queries": 3000}


def confidence_in_own(made: Outputs, probes: Output) -> torch.Tensor:
    """Asked anew, of the model itself."""
    images = read_tensors(probes.data, "PROBES")[0]["images"]
    oracle = Oracle(read_networks(made["ORIGINAL"].data, "ORIGINAL").network(), torch.device("cpu"), API())
    classes, each = images.shape[:2]
    own = torch.arange(classes).repeat_interleave(each)
    return oracle(images.flatten(0, 1))[torch.arange(len(own)), own].view(classes, each)


def test_probes_raise_the_confidence_in_their_class_within_the_budget() -> None:
    made = chain()
    found = run_stage("probe", made, confidence=0.9, **FEW)
    tensors, about = read_tensors(found["PROBES"].data, "PROBES")
    assert tensors["images"].shape == (4, 4, 1, 9, 9)
    assert 0 <= tensors["images"].min() <= tensors["images"].max() <= 1
    torch.testing.assert_close(confidence_in_own(made, found["PROBES"]), tensors["confidence"])
    assert 16 <= about["queries"] <= 3000
    start = run_stage("probe", made, confidence=0.9, **{**FEW, "max_queries": 16})
    assert read_tensors(start["PROBES"].data, "PROBES")[1]["queries"] == 16
    assert tensors["confidence"].mean() > confidence_in_own(made, start["PROBES"]).mean() + 0.2
    assert run_stage("probe", made, confidence=0.9, **FEW) == found


def test_a_search_that_was_interrupted_goes_on_to_the_same_bytes() -> None:
    made, hooks = chain(), Stopping(3)
    with pytest.raises(JobFailed):
        run_stage("probe", made, hooks=hooks, confidence=0.99, **FEW)
    assert len(hooks.saved) == 3
    assert run_stage("probe", made, hooks=hooks, confidence=0.99, **FEW) == run_stage(
        "probe", made, confidence=0.99, **FEW
    )


def test_the_forgotten_classes_are_told_by_queries_and_the_threat_model_counts_them() -> None:
    made = chain()
    made |= run_stage("probe", made, **FEW)
    answers = body(run_stage("attack", made, "label_inference_black_box")["ANSWERS"])
    assert answers["labels"] == body(made["LABELS"])["labels"]
    told = answers["threat_model"]
    assert (told["access"], told["observes"]) == ("black_box", ["COUNTS", "ORIGINAL", "PROBES", "UNLEARNED"])
    probing = read_tensors(made["PROBES"].data, "PROBES")[1]["queries"]
    assert told["queries"] == {"probing": probing, "attack": 4 * 16}  # 16 probes, the original and 3 others
    assert told["params"]["precision"] == "float32"


def test_an_api_that_rounds_tells_less() -> None:
    made = chain()
    made |= run_stage("probe", made, **FEW)
    rounded = body(run_stage("attack", made, "label_inference_black_box", decimals=1)["ANSWERS"])
    assert rounded["threat_model"]["params"]["decimals"] == 1
    assert max(max(row) for row in rounded["scores"]) == min(min(row) for row in rounded["scores"]) == 0


@pytest.mark.parametrize("shape", [(4, 2, 1, 9, 8), (3, 2, 1, 9, 9), (8, 1, 9, 9), (4, 0, 1, 9, 9)])
def test_probes_that_do_not_fit_the_model_are_refused(shape: tuple[int, ...]) -> None:
    made = chain() | {"PROBES": Output(write_tensors({"images": torch.zeros(shape)}, {}))}
    with pytest.raises(InvalidRequest, match="PROBES must hold") as refused:
        run_stage("attack", made, "label_inference_black_box")
    assert refused.value.field == "inputs.PROBES"


def test_an_oracle_counts_rounds_and_tells_probabilities() -> None:
    network = read_networks(chain()["ORIGINAL"].data, "ORIGINAL").network()
    images = torch.rand(7, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    plain = Oracle(network, torch.device("cpu"), API())
    told = plain(images)
    assert told.shape == (7, 4)
    torch.testing.assert_close(told.sum(1), torch.ones(7, dtype=torch.float64), atol=1e-6, rtol=0)
    assert plain.queries == 7
    assert torch.equal(Oracle(network, torch.device("cpu"), API(decimals=2))(images), told.round(decimals=2))
    fine = Oracle(network, torch.device("cpu"), API(precision="float64"))(images)
    torch.testing.assert_close(fine, told, atol=1e-6, rtol=0)
    assert not torch.equal(fine, told)
