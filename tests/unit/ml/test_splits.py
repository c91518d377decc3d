"""The pool: what may be forgotten, apart from what was pretrained on."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor

from shared.errors import InvalidRequest
from shared.ml.context import make_generator
from shared.ml.splits import draw_default_pool, split_pretraining_and_pool


def draw_labels(n: int, classes: int = 3) -> Tensor:
    """Some classes are more common than others."""
    weights = torch.arange(1.0, classes + 1)
    return torch.multinomial(weights, n, replacement=True, generator=make_generator(0, "labels"))


def test_a_random_eighth_is_the_pool_unless_it_is_given() -> None:
    for n, size in ((4000, 500), (60_000, 5000), (16, 2)):
        pretraining, pool = split_pretraining_and_pool(draw_labels(n))
        assert len(pool) == size
        assert sorted([*pretraining.tolist(), *pool.tolist()]) == list(range(n))
        assert torch.equal(pool, draw_default_pool(n))
    # published results rest on these samples
    assert draw_default_pool(4000)[:5].tolist() == [3, 4, 9, 25, 26]


@pytest.mark.parametrize("size", [1, 7, 100, 399, 400])
def test_a_given_pool_has_of_each_class_the_same_share(size: int) -> None:
    labels = draw_labels(400)
    pretraining, pool = split_pretraining_and_pool(labels, size)
    assert len(pool) == size
    assert sorted([*pretraining.tolist(), *pool.tolist()]) == list(range(400))
    assert pool.tolist() == sorted(pool.tolist())
    there = Counter(labels.tolist())
    for label, count in Counter(labels[pool].tolist()).items():
        assert abs(count - there[label] * size / 400) < 1
    again = split_pretraining_and_pool(labels, size)[1]
    assert torch.equal(pool, again)


def test_named_samples_are_in_the_pool_and_the_others_have_equal_shares() -> None:
    labels = draw_labels(400)
    default = {*draw_default_pool(400).tolist()}
    named = [place for place in range(400) if place not in default][:60]
    pool = split_pretraining_and_pool(labels, 200, named)[1]
    assert {*named} <= {*pool.tolist()}
    assert len(pool) == 200
    others = [place for place in pool.tolist() if place not in {*named}]
    rest = [place for place in range(400) if place not in {*named}]
    there = Counter(labels[rest].tolist())
    for label, count in Counter(labels[others].tolist()).items():
        assert abs(count - there[label] * 140 / 340) < 1


@pytest.mark.parametrize(
    ("pool", "named", "words"),
    [
        (401, 0, "the train split has 400 samples, fewer than a pool of 401: lower pool"),
        (10, 11, "deletions name 11 samples, but the pool has only 10: raise pool"),
        (None, 51, "deletions name 51 samples, but the pool has only 50 of 400 (an eighth): set"),
    ],
)
def test_a_pool_that_cannot_be_is_refused_by_its_field(
    pool: int | None, named: int, words: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        split_pretraining_and_pool(draw_labels(400), pool, range(named))
    assert words in refused.value.message
    assert refused.value.field == "params.pool"
