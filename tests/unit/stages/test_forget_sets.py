"""Forget sets: disjoint, of one size, drawn without looking, or refused in words that name the
field."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from shared.errors import InvalidRequest
from shared.ml.context import make_generator
from workers.stages._forget_sets import ForgetParams, draw_forget_sets

BALANCED = torch.arange(12) % 3
SKEWED = torch.tensor([0] * 8 + [1] * 3 + [2])


def places(labels: torch.Tensor = BALANCED, seed: int = 0, **params: Any) -> torch.Tensor:
    return draw_forget_sets(ForgetParams(**params), labels, make_generator(seed, "forget sets"))


@pytest.mark.parametrize("params", [
    {"deletions": 3, "size": 2},
    {"forget": "class", "deletions": 3},
    {"forget": "class", "deletions": 2, "fraction": 0.5},
])  # fmt: skip
def test_forget_sets_are_disjoint_and_another_seed_draws_others(params: dict[str, Any]) -> None:
    drawn = places(**params)
    assert len(drawn.flatten().unique()) == drawn.numel()
    assert torch.equal(drawn, places(**params))
    assert any(not torch.equal(drawn, places(seed=seed, **params)) for seed in (1, 2, 3))


@pytest.mark.parametrize(("fraction", "k"), [(1.0, 4), (0.5, 2), (0.3, 1), (0.01, 1)])
def test_a_class_is_forgotten_by_the_share_that_is_asked_for(fraction: float, k: int) -> None:
    drawn = places(forget="class", deletions=3, fraction=fraction)
    assert drawn.shape == (3, k)
    assert sorted(BALANCED[row].unique().item() for row in drawn) == [0, 1, 2]


def test_the_first_samples_stay_the_first_when_more_are_forgotten() -> None:
    few, many = places(deletions=2), places(deletions=6)
    assert torch.equal(few, many[:2])


def test_forget_sets_of_ones_own_are_taken_as_they_are() -> None:
    assert places(indices=[[3, 1], [0, 7]]).tolist() == [[3, 1], [0, 7]]


@pytest.mark.parametrize(("params", "field", "words"), [
    ({"indices": [[1], [1]]}, "params.indices", "sample 1 is in more than one forget set"),
    ({"indices": [[2, 2]]}, "params.indices", "sample 2 is in more than one forget set"),
    ({"indices": [[12]]}, "params.indices", "no sample 12 in a training set of 12"),
    ({"indices": [[1], [2, 3]]}, "params.indices", "the same size"),
    ({"deletions": 7, "size": 2}, "params.deletions", "need more than the 12 samples"),
    ({"deletions": 1, "size": 13}, "params.deletions", "need more than the 12 samples"),
    ({"forget": "class", "deletions": 4}, "params.deletions", "has 3 classes, too few for 4 deletions"),
])  # fmt: skip
def test_what_cannot_be_forgotten_is_refused(
    params: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words) as refused:
        places(**params)
    assert refused.value.field == field


def test_classes_that_would_lose_different_numbers_are_refused_with_the_way_out() -> None:
    with pytest.raises(
        InvalidRequest, match=r"lose 1 to 8 samples: train on a balanced set \(balanced: true\)"
    ):
        places(SKEWED, forget="class", deletions=3)
    assert places(SKEWED, forget="class", deletions=3, fraction=0.1).shape == (3, 1)


def test_everything_can_be_forgotten() -> None:
    assert places(torch.zeros(5, dtype=torch.int64), forget="class", deletions=1).shape == (1, 5)
    assert places(deletions=1, size=12).shape == (1, 12)
