"""A small form of benchmarks/statistics.py: coverage, false alarms and power, at wide bounds."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.statistics import (
    is_alarmed,
    measure_bootstrap_ratio,
    measure_bootstrap_t,
    measure_power,
)
from shared.reporting.evidence import correct_for_number

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("n", [8, 32])
@pytest.mark.parametrize(("scores", "least"), [("normal", 0.92), ("lognormal(0.75)", 0.88)])
def test_intervals_of_a_mean_cover_it_as_often_as_they_say(
    scores: str, least: float, n: int
) -> None:
    """Of 500 trials; 0.94 and 0.91 of 5,000."""
    assert least <= measure_bootstrap_t(scores, n, 500) <= 0.98


@pytest.mark.parametrize("share_decoys", [False, True])
def test_an_audit_in_which_nothing_leaks_has_a_leak_in_one_of_forty(share_decoys: bool) -> None:
    """1.5 of 60 are expected, and more than 7 in one of 10,000 runs; without a correction 8 are."""
    rng = np.random.default_rng(0)
    assert sum(is_alarmed(rng, share_decoys) for _ in range(60)) <= 7


def test_what_comes_back_is_seen() -> None:
    rng = np.random.default_rng(0)
    assert measure_power(8, 147, 1.0, 3.0, 20, rng) == 1
    assert measure_power(8, 999, 0.125, 10.0, 40, rng) > 0.3
    assert measure_power(8, 147, 0.0, 0.0, 60, rng) <= 0.1


def test_the_correction_is_holms() -> None:
    assert correct_for_number([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert correct_for_number([0.5, 0.9]) == [1.0, 1.0]
    assert correct_for_number([]) == []


@pytest.mark.parametrize(
    ("spread", "n", "least"), [(0.5, 8, 0.89), (0.5, 24, 0.9), (1.5, 24, 0.87)]
)
def test_the_way_is_in_its_interval(spread: float, n: int, least: float) -> None:
    assert least <= measure_bootstrap_ratio(spread, n, 300) <= 0.99
