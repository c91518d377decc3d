"""Attacks that only ask: probes are found by queries, counted, capped, resumable; the answers come
from them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from shared.errors import InvalidRequest, JobFailed
from shared.ml.attacks._published_probes import ProbeState
from shared.ml.networks import read_networks
from shared.ml.oracles import Oracle, OracleParams
from shared.ml.tensors import read_tensors, write_tensors
from tests.support.tiny_chain import Outputs, StopAtCheckpoint, parse_output, run_chain
from workers.context import StageOutput
from workers.local import run_stage

FEW = {"per_class": 4, "resolution": 3, "directions": 9, "max_queries": 3000}


def confidence_in_own(made: Outputs, probes: StageOutput) -> torch.Tensor:
    """Asked anew, of the model itself."""
    images = read_tensors(probes.data, "PROBES")[0]["images"]
    oracle = Oracle(
        read_networks(made["ORIGINAL"].data, "ORIGINAL").load_network(),
        torch.device("cpu"),
        OracleParams(),
    )
    classes, each = images.shape[:2]
    own = torch.arange(classes).repeat_interleave(each)
    return oracle(images.flatten(0, 1))[torch.arange(len(own)), own].view(classes, each)


def test_probes_raise_the_confidence_in_their_class_within_the_budget() -> None:
    made = run_chain()
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


PAPER = {
    "preset": "paper",
    "per_class": 2,
    "candidates": 3,
    "tries": 2,
    "rounds": 8,
    "directions": 30,
    "confidence": 0.6,
}
MOST = 4 * 3 * 2 * 8 * (2 * 30 + 1)  # 4 classes


def test_published_probes_are_sought_in_full_pixels_and_cost_at_most_what_was_quoted() -> None:
    made = run_chain()
    found = run_stage("probe", made, **PAPER)
    tensors, about = read_tensors(found["PROBES"].data, "PROBES")
    assert tensors["images"].shape == (4, 2, 1, 9, 9)
    assert 0 <= tensors["images"].min() <= tensors["images"].max() <= 1
    torch.testing.assert_close(confidence_in_own(made, found["PROBES"]), tensors["confidence"])
    assert (about["preset"], about["at_most"]) == ("paper", MOST)
    assert about["queries"] < MOST  # it stops where it is sure
    assert about["queries"] % 61 == 0
    once = run_stage("probe", made, **{**PAPER, "tries": 1, "rounds": 1})
    assert tensors["confidence"].mean() > confidence_in_own(made, once["PROBES"]).mean() + 0.1
    sure = tensors["confidence"] >= 0.6
    assert sure.any()
    # far from certain: a search ends as soon as it is sure enough
    assert tensors["confidence"][sure].max() < 0.9
    assert run_stage("probe", made, **PAPER) == found


def test_a_published_search_asks_all_of_its_quote_where_it_never_gets_there() -> None:
    about = read_tensors(
        run_stage("probe", run_chain(), **{**PAPER, "confidence": 0.999999})["PROBES"].data,
        "PROBES",
    )[1]
    assert about["queries"] == about["at_most"] == MOST


def test_a_published_search_that_was_interrupted_goes_on_to_the_same_bytes() -> None:
    made, hooks = run_chain(), StopAtCheckpoint(20)  # in the second try of the first
    with pytest.raises(JobFailed):
        run_stage("probe", made, hooks=hooks, **{**PAPER, "confidence": 0.99})
    assert run_stage("probe", made, hooks=hooks, **{**PAPER, "confidence": 0.99}) == run_stage(
        "probe", made, **{**PAPER, "confidence": 0.99}
    )


@pytest.mark.parametrize(("change", "field", "words"), [
    ({"max_queries": MOST - 1}, "params.max_queries", f"may need up to {MOST:,} queries"),
    ({"resolution": 3}, "params.resolution", "preset paper does not use resolution"),
    ({"preset": "coarse"}, "params.candidates", "preset coarse does not use candidates"),
    ({"candidates": 1}, "params.candidates", "1 candidates per class are fewer than the 2"),
])  # fmt: skip
def test_a_search_that_cannot_be_made_is_refused_before_a_query(
    change: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words) as refused:
        run_stage("probe", run_chain(), **{**PAPER, **change})
    assert refused.value.field == field
    run_stage("probe", run_chain(), **{**PAPER, "max_queries": MOST, "rounds": 8})


def test_the_published_adam_counts_the_steps_of_each_value() -> None:
    source = torch.Generator().manual_seed(0)
    probe = ProbeState.create(torch.full((6,), 0.5))
    theirs = torch.full((6,), 0.5, requires_grad=True)
    optimiser = torch.optim.Adam([theirs], lr=0.1)
    for _ in range(4):  # the first half only: the others stay as they are
        slope = torch.randn(3, generator=source)
        probe.ascend(torch.arange(3), slope)
        theirs.grad = -torch.cat([slope, torch.zeros(3)])
        optimiser.step()
    torch.testing.assert_close(probe.x, theirs.detach().clamp(0, 1))
    # a first step is as long as the rate
    probe.ascend(torch.arange(3, 6), torch.tensor([2.0, -3.0, 0.5]))
    torch.testing.assert_close(probe.x[3:], torch.tensor([0.6, 0.4, 0.6]))


def test_a_search_that_was_interrupted_goes_on_to_the_same_bytes() -> None:
    made, hooks = run_chain(), StopAtCheckpoint(3)
    with pytest.raises(JobFailed):
        run_stage("probe", made, hooks=hooks, confidence=0.99, **FEW)
    assert len(hooks.checkpoints) == 3
    assert run_stage("probe", made, hooks=hooks, confidence=0.99, **FEW) == run_stage(
        "probe", made, confidence=0.99, **FEW
    )


def test_queries_reveal_the_forgotten_classes_and_the_threat_model_counts_them() -> None:
    made = run_chain()
    made |= run_stage("probe", made, **FEW)
    answers = parse_output(run_stage("attack", made, "label_inference_black_box")["ANSWERS"])
    assert answers["labels"] == parse_output(made["LABELS"])["labels"]
    told = answers["threat_model"]
    assert (told["access"], told["observes"]) == (
        "black_box",
        ["DELETION_SIZES", "ORIGINAL", "PROBES", "UNLEARNED"],
    )
    probing = read_tensors(made["PROBES"].data, "PROBES")[1]["queries"]
    # 16 probes, the original and 3 others
    assert told["queries"] == {"probing": probing, "attack": 4 * 16}
    assert told["params"]["precision"] == "float32"


def test_each_release_of_successive_deletions_is_compared_with_the_one_before_it() -> None:
    made = run_chain(successive=True)
    first = run_chain()  # probes are of what was there before the first deletion
    made |= run_stage("probe", first, **FEW)
    answers = parse_output(run_stage("attack", made, "label_inference_black_box")["ANSWERS"])
    images = read_tensors(made["PROBES"].data, "PROBES")[0]["images"]
    own = torch.arange(4).repeat_interleave(4)

    def confidence(role: str, which: int) -> torch.Tensor:
        network = read_networks(made[role].data, role).load_network(which)
        told = Oracle(network, torch.device("cpu"), OracleParams())(images.flatten(0, 1))
        return told[torch.arange(16), own].view(4, 4).mean(1)

    for deletion, scores in enumerate(answers["scores"]):
        before = confidence("UNLEARNED", deletion - 1) if deletion else confidence("ORIGINAL", 0)
        expected = confidence("UNLEARNED", deletion) - before
        torch.testing.assert_close(torch.tensor(scores, dtype=torch.float64), expected)
    assert answers["labels"] == parse_output(made["LABELS"])["labels"]
    assert answers["threat_model"]["queries"]["attack"] == 6 * 16  # three before and three after


def test_an_api_that_rounds_tells_less() -> None:
    made = run_chain()
    made |= run_stage("probe", made, **FEW)
    rounded = parse_output(
        run_stage("attack", made, "label_inference_black_box", decimals=1)["ANSWERS"]
    )
    assert rounded["threat_model"]["params"]["decimals"] == 1
    assert (
        max(max(row) for row in rounded["scores"])
        == min(min(row) for row in rounded["scores"])
        == 0
    )


@pytest.mark.parametrize("shape", [(4, 2, 1, 9, 8), (3, 2, 1, 9, 9), (8, 1, 9, 9), (4, 0, 1, 9, 9)])
def test_probes_that_do_not_fit_the_model_are_refused(shape: tuple[int, ...]) -> None:
    made = run_chain() | {"PROBES": StageOutput(write_tensors({"images": torch.zeros(shape)}, {}))}
    with pytest.raises(InvalidRequest, match="PROBES must hold") as refused:
        run_stage("attack", made, "label_inference_black_box")
    assert refused.value.field == "inputs.PROBES"


def test_an_oracle_counts_rounds_and_tells_probabilities() -> None:
    network = read_networks(run_chain()["ORIGINAL"].data, "ORIGINAL").load_network()
    images = torch.rand(7, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    plain = Oracle(network, torch.device("cpu"), OracleParams())
    told = plain(images)
    assert told.shape == (7, 4)
    torch.testing.assert_close(told.sum(1), torch.ones(7, dtype=torch.float64), atol=1e-6, rtol=0)
    assert plain.query_count == 7
    assert torch.equal(
        Oracle(network, torch.device("cpu"), OracleParams(decimals=2))(images),
        told.round(decimals=2),
    )
    fine = Oracle(network, torch.device("cpu"), OracleParams(precision="float64"))(images)
    torch.testing.assert_close(fine, told, atol=1e-6, rtol=0)
    assert not torch.equal(fine, told)
