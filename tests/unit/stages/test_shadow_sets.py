"""Shadow deletions forget what no tested deletion forgets, in training sets like the tested one."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from shared.errors import InvalidRequest
from shared.ml.context import make_generator
from shared.ml.samples import Samples
from shared.ml.splits import split_pretraining_and_pool
from workers.stages._shadow_sets import DeletionsUnderTest, ShadowSet, draw_shadow_sets

LABELS = torch.arange(1600) % 4  # a pool of 200, about 50 a class
SPLIT = Samples(torch.arange(1600.0).view(-1, 1, 1, 1), LABELS)
POOL = split_pretraining_and_pool(LABELS)[1]
TRAINING = POOL[torch.randperm(200, generator=make_generator(0, "training"))[:40]].tolist()
TESTED = [TRAINING[i : i + 2] for i in range(0, 16, 2)]


def sets(
    count: int = 199, one_class: bool = False, training: list[int] = TRAINING
) -> list[ShadowSet]:
    tested = DeletionsUnderTest(training, TESTED, SPLIT, one_class)
    return draw_shadow_sets(count, tested, POOL, make_generator(0, "shadow sets"))


def retained_sets(tested: DeletionsUnderTest, count: int = 199) -> list[ShadowSet]:
    """Of a model that was brought."""
    return draw_shadow_sets(count, tested, None, make_generator(0, "shadow sets"))


@pytest.mark.parametrize("one_class", [False, True])
def test_as_many_as_asked_and_never_a_tested_sample(one_class: bool) -> None:
    made, gone = sets(one_class=one_class), {place for row in TESTED for place in row}
    assert [len(one.forget) for one in made] == [8] * 25  # 199, by as many as are tested
    first, *others = made
    # of its 24 other samples there are 12 sets
    assert (first.is_tested_set, first.training.tolist()) == (True, TRAINING)
    wanted = Counter(LABELS[torch.tensor(TRAINING)].tolist())
    pool = {*POOL.tolist()}
    for one in made:
        assert len(one.forget.flatten().unique()) == one.forget.numel()
        forgotten = one.training[one.forget]
        assert not gone & {*forgotten.flatten().tolist()}
        assert Counter(LABELS[one.training].tolist()) == wanted
        if one_class:
            assert all(len(LABELS[row].unique()) == 1 for row in forgotten)
    for one in others:
        assert not one.is_tested_set
        assert {*one.training.tolist()} <= pool - gone
    assert not torch.equal(others[0].training, others[1].training)


def test_a_large_training_set_needs_no_other() -> None:
    tested = DeletionsUnderTest(TRAINING, TESTED[:6], SPLIT, False)
    one, two = draw_shadow_sets(12, tested, POOL, make_generator(0, "shadow sets"))
    assert (one.is_tested_set, two.is_tested_set) == (True, True)
    assert not {*one.forget.flatten().tolist()} & {*two.forget.flatten().tolist()}
    assert all(one.is_tested_set for one in sets(8))


def test_what_is_left_of_the_tested_training_set_is_no_set_of_its_own() -> None:
    few = TRAINING[:18]  # one forget set is left, and eight are tested
    assert not any(one.is_tested_set for one in sets(training=few))


def test_a_pool_that_is_too_small_is_refused() -> None:
    with pytest.raises(
        InvalidRequest,
        match=r"need \d+ samples of class \d, but the pool has only \d+ that no tested",
    ):
        sets(training=POOL.tolist())


@pytest.mark.parametrize(("k", "one_class"), [(1, False), (2, False), (1, True)])
def test_of_a_model_that_was_brought_as_many_as_its_retained_samples_suffice_for(
    k: int, one_class: bool
) -> None:
    forget = [[*range(n * k, (n + 1) * k)] for n in range(3)]
    training = [*range(3 * k + 30 * k)]
    made = retained_sets(DeletionsUnderTest(training, forget, SPLIT, one_class))
    assert [one.forget.shape for one in made] == [(3, k)] * 10
    assert all(one.is_tested_set and one.training.tolist() == training for one in made)
    drawn = torch.cat([one.training[one.forget].flatten() for one in made])
    assert sorted(drawn.tolist()) == training[3 * k :]
    few = retained_sets(DeletionsUnderTest(training, forget, SPLIT, one_class), count=20)
    assert len(few) == 7


def test_copies_of_tested_samples_are_no_shadow_deletions() -> None:
    images = SPLIT.images.clone()
    images[5:8] = images[0]
    tested = DeletionsUnderTest([*range(30)], [[0]], Samples(images, LABELS), False)
    made = retained_sets(tested)
    drawn = torch.cat([one.training[one.forget].flatten() for one in made])
    assert sorted(drawn.tolist()) == [*range(1, 5), *range(8, 30)]


@pytest.mark.parametrize(
    ("training", "forget", "says"),
    [
        (19, [[0]], "18 retained samples are too few .* at least 19 retained"),
        (3 + 20, [[0], [1], [2]], "20 retained samples .* sets of 3 .* at least 21 retained"),
        (2 + 37, [[0, 1]], "37 retained samples .* deletions of 2.* at least 38 retained"),
        (1, [[0]], "0 retained samples"),
    ],
)
def test_too_few_retained_samples_are_refused_with_how_many_it_takes(
    training: int, forget: list[list[int]], says: str
) -> None:
    with pytest.raises(InvalidRequest, match=says) as refused:
        retained_sets(DeletionsUnderTest([*range(training)], forget, SPLIT, False))
    assert refused.value.field == "inputs.TRAINING_SET"
