"""Paired differences: as the intervals of shared.ml.statistics, without numpy."""

from __future__ import annotations

import random

import pytest

from shared.ml import statistics
from shared.reporting.paired import (
    bca,
    bootstrap_t,
    compute_interval,
    group_by_deletion,
    newcombe,
    pair,
)


def draw_values(n: int, *, skewed: bool = False) -> list[float]:
    draw = random.Random(n)
    return [draw.expovariate(1) if skewed else draw.gauss(2, 3) for _ in range(n)]


@pytest.mark.parametrize(("n", "skewed"), [(8, False), (16, True), (60, False)])
def test_bootstrap_t_is_that_of_the_house(n: int, skewed: bool) -> None:
    values = draw_values(n, skewed=skewed)
    expected = statistics.bootstrap_t(values)
    assert expected is not None
    width = expected[1] - expected[0]
    assert bootstrap_t(values) == pytest.approx(expected, abs=0.12 * width)
    assert compute_interval(values) == bootstrap_t(values)


def test_bca_is_that_of_the_house() -> None:
    values = draw_values(150, skewed=True)
    expected = statistics.bca(values)
    assert expected is not None
    assert bca(values) == pytest.approx(expected, abs=0.08 * (expected[1] - expected[0]))
    assert compute_interval(values) == bca(values)


def test_proportions_have_newcombes_interval() -> None:
    """Without discordant pairs it is not of width zero; it never claims more than Wilson's ends."""
    low, high = newcombe([1] * 8 + [0] * 8, [1] * 8 + [0] * 8)
    assert low == pytest.approx(-high)
    assert 0 < high < 0.3
    wilson = statistics.wilson(8, 8)
    assert wilson is not None
    assert newcombe([1] * 8, [1] * 8) == pytest.approx((wilson[0] - 1, 1 - wilson[0]))
    low, high = newcombe([0] * 8, [1] * 8)
    assert low == pytest.approx(1 - 2**0.5 * (1 - wilson[0]))
    assert high == pytest.approx(1)


def test_a_shift_of_every_pair_is_seen() -> None:
    before = draw_values(10)
    draw = random.Random(1)
    difference = pair(before, [value + 4 + draw.gauss(0, 0.5) for value in before])
    assert (difference.n, difference.sign) == (10, 1)
    assert difference.low is not None
    assert 3 < difference.low < difference.mean < 5


def test_few_or_equal_pairs_have_no_interval() -> None:
    few = pair([1.0, 2.0], [2.0, 3.5])
    assert (few.mean, few.low, few.n, few.sign) == (1.25, None, 2, 0)
    assert few.reason == "fewer than 5 pairs have no interval"
    equal = pair([1.0] * 6, [3.0] * 6)
    assert (equal.mean, equal.low) == (2.0, None)
    assert equal.reason == "all pairs differ by the same"


def test_samples_of_a_deletion_count_together() -> None:
    assert group_by_deletion([1, 3, 5, 7], deletions=2, size=2) == [2, 6]
    assert group_by_deletion([1, 3], deletions=2, size=1) == [1, 3]
    assert group_by_deletion([1, 3, 5], deletions=2, size=2) is None
