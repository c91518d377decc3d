"""What attacks returned where no truth was brought: read as untrusted bytes, described, not scored."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from shared.errors import InvalidRequest
from shared.evaluation import Unscored
from shared.ml.attack_io import LabelGuesses, Reconstruction
from shared.ml.findings.images import KIND as IMAGES
from shared.ml.findings.labels import KIND as LABELS
from shared.ml.findings.labels import measure_margins
from shared.ml.findings.membership import KIND as MEMBERSHIP
from shared.ml.scored_kind import UnscoredPictures
from workers.context import JobContext

THREAT = {"attack": "mine", "observes": ["ORIGINAL", "UNLEARNED"]}


def make_inputs(**inputs: bytes) -> JobContext:
    return JobContext(
        params=None,
        method=None,
        method_params=None,
        inputs=inputs,
        seed=0,
        device=torch.device("cpu"),
        hooks=None,
    )


def make_reconstruction(**changes: Any) -> bytes:
    images = torch.rand(2, 3, 1, 5, 5)
    fields: dict[str, Any] = {
        "images": images,
        "labels": torch.zeros(2, 3, dtype=torch.int64),
        "matching_loss": torch.tensor([0.5, 0.25]),
        "gradient_sources": ["pair", "pair"],
        "controls": {"random_direction": images[:1]},
        "control_losses": {"random_direction": torch.tensor([0.75])},
        **changes,
    }
    return Reconstruction(**fields).write(THREAT)


def test_reconstructions_keep_their_losses_and_those_of_random_directions() -> None:
    described = IMAGES.describe(make_inputs(RECONSTRUCTION=make_reconstruction()), None)
    assert not described.metrics
    unscored = Unscored.model_validate(described.details["unscored"]).images
    assert unscored is not None
    assert unscored.matching_loss == [0.5, 0.25]
    assert unscored.control_losses == {"random_direction": [0.75]}
    assert described.pictures is not None
    flat = {name: some.flatten(0, 1) for name, some in described.pictures.images.items()}
    read = IMAGES.read_pictures(flat, described.pictures.metadata, "PICTURES_1")
    assert isinstance(read, UnscoredPictures)
    assert (len(read.reconstruction), len(read.control), len(read.public)) == (6, 3, 0)
    assert list(read.control_losses) == [0.75] * 3


@pytest.mark.parametrize(
    "changes",
    [
        {"matching_loss": torch.tensor([0.5])},
        {"matching_loss": torch.tensor([0.5, torch.nan])},
        {"labels": torch.zeros(2, 3)},
        {"labels": torch.full((2, 3), -1)},
        {"images": torch.rand(2, 1, 5, 5)},
        {"images": torch.rand(0, 3, 1, 5, 5)},
        {"control_losses": {}},
        {"controls": {"random_direction": torch.rand(3, 3, 1, 5, 5)}},
        {"controls": {"random_direction": torch.rand(1, 2, 1, 5, 5)}},
    ],
)
def test_reconstructions_that_are_none_are_refused(changes: dict[str, Tensor]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        IMAGES.describe(make_inputs(RECONSTRUCTION=make_reconstruction(**changes)), None)
    assert refused.value.field == "inputs.RECONSTRUCTION"


@pytest.mark.parametrize(
    ("images", "about"),
    [
        ({}, {"losses": [0.5]}),
        ({}, {"labels": []}),
        ({"random_direction": torch.rand(3, 1, 5, 5)}, {}),
        ({"random_direction": torch.rand(1, 1, 5, 5)}, {}),
        ({"nearest_public": torch.rand(1, 1, 5, 5)}, {}),
        ({"reconstruction": torch.rand(2, 1, 5, 5).double()}, {}),
        ({"reconstruction": torch.rand(2, 5, 5)}, {}),
        ({}, {"losses": [0.5, 3.0]}),
    ],
)
def test_pictures_that_do_not_fit_their_captions_are_refused(
    images: dict[str, Tensor], about: dict[str, Any]
) -> None:
    fitting = {"losses": [0.5, 0.5], "labels": [0, 1]}
    with pytest.raises(InvalidRequest):
        IMAGES.read_pictures(
            {"reconstruction": torch.rand(2, 1, 5, 5), **images}, {**fitting, **about}, "PICTURES_1"
        )


def test_a_margin_is_the_lead_over_the_next_class_as_a_share_of_the_spread() -> None:
    scores = torch.tensor([[-1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [-1.0, -1.0, 1.0]]).double()
    assert measure_margins(torch.tensor([[0], [0], [0]]), scores) == [0.5, 0.0, 0.0]
    # several classes are named: the last of them against the first that is not
    assert measure_margins(torch.tensor([[0, 1]]), scores[:1]) == [0.5]
    assert measure_margins(torch.tensor([[0, 1, 2]]), scores[:1]) == [None]
    # a class that was not the likeliest has no lead
    assert measure_margins(torch.tensor([[2]]), scores[:1]) == [0.0]


def test_guesses_keep_their_margins() -> None:
    guesses = LabelGuesses(torch.tensor([[1]]), torch.tensor([[0.0, -1.0, 0.0]]))
    described = LABELS.describe(make_inputs(ANSWERS=guesses.write(THREAT)), None)
    labels = Unscored.model_validate(described.details["unscored"]).labels
    assert labels is not None
    assert (labels.labels, labels.margins) == ([[1]], [1.0])


@pytest.mark.parametrize(
    ("labels", "scores"),
    [
        ([[3]], [[0.0, 1.0]]),
        ([[0]], [[0.0, float("inf")]]),
        ([[0]], [[0.0], [1.0]]),
        ([[-1]], [[0.0]]),
    ],
)
def test_guesses_that_are_none_are_refused(
    labels: list[list[int]], scores: list[list[float]]
) -> None:
    data = json.dumps({"labels": labels, "scores": scores, "threat_model": THREAT}).encode()
    with pytest.raises(InvalidRequest):
        LABELS.describe(make_inputs(ANSWERS=data), None)


def test_a_kind_that_says_nothing_without_the_truth_says_so() -> None:
    with pytest.raises(InvalidRequest, match="without the deleted samples"):
        MEMBERSHIP.describe(make_inputs(SCORES=b""), None)
