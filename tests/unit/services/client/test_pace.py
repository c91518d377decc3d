"""services.client.pace: what `palimpsest watch` shows as remaining time, replayed over uneven
progress."""

from __future__ import annotations

import bisect
import random
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import pytest

from services.client.pace import Pace, PaceEstimator

POLL_S = 0.5  # between two looks
SHOW_S = 2.0  # between two lines that are shown at least
JUMP = 1.6


class Shown(NamedTuple):
    """One display."""

    at_s: float
    remaining_s: float | None
    truth_s: float


def replay(count_done: Callable[[float], int], end_s: float) -> list[Shown]:
    """What is shown of a job or an audit that has done `count_done(t)` of `count_done(end_s)` steps
    after t seconds."""
    total, estimator, shown = count_done(end_s), PaceEstimator(), list[Shown]()
    done, shown_at_s, now_s = -1, -SHOW_S, 0.0
    while now_s < end_s:
        if count_done(now_s) != done:  # an answer that says nothing new is 304
            done = count_done(now_s)
            pace = estimator.observe(now_s, done, total)
            if now_s - shown_at_s >= SHOW_S:
                shown.append(Shown(now_s, pace.remaining_s, end_s - now_s))
                shown_at_s = now_s
        now_s += POLL_S
    return shown


def find_jumps(shown: list[Shown]) -> Iterator[tuple[Shown, Shown]]:
    """Displays that moved by more than JUMP beyond both standing still and moving as the truth
    did."""
    known = [display for display in shown if display.remaining_s]
    for one, other in pairwise(known):
        moved, truth = other.remaining_s / one.remaining_s, other.truth_s / one.truth_s  # type: ignore[operator]
        if not min(1, truth) / JUMP <= moved <= max(1, truth) * JUMP:
            yield one, other


def schedule(
    steps: int, workers: int, mean_s: float, spread: float, seed: int
) -> tuple[Callable[[float], int], float]:
    """Jobs of uneven length on some workers."""
    draw, busy_until, ends = random.Random(seed), [0.0] * workers, list[float]()
    for _ in range(steps):
        worker = busy_until.index(min(busy_until))
        busy_until[worker] += mean_s * draw.uniform(1 - spread, 1 + spread)
        ends.append(busy_until[worker])
    ends.sort()
    return lambda now_s: bisect.bisect_right(ends, now_s), ends[-1]


STEADY: dict[str, tuple[Callable[[float], int], float]] = {
    "ten a second": (lambda now_s: int(now_s * 10), 600),
    "one in thirty seconds": (lambda now_s: int(now_s / 30), 3000),
    "four at once every two minutes": (lambda now_s: 4 * int(now_s / 120), 3600),
    "twenty at once every seven seconds": (lambda now_s: 20 * int(now_s / 7), 700),
}


@pytest.mark.parametrize("name", STEADY)
def test_a_steady_run_is_right_from_early_on(name):
    count_done, end_s = STEADY[name]
    shown = replay(count_done, end_s)
    assert list(find_jumps(shown)) == []
    known = [display for display in shown if display.remaining_s]
    assert known[0].at_s <= end_s / 5
    assert [
        d for d in known if d.at_s < 0.9 * end_s and not 0.75 <= d.remaining_s / d.truth_s <= 1.25
    ] == []  # type: ignore[operator]


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("spread", [0.05, 0.5, 0.9])
def test_jobs_of_uneven_length_do_not_make_it_jump(workers, spread):
    for seed in range(10):
        shown = replay(*schedule(80, workers, 60.0 * workers, spread, seed))
        assert list(find_jumps(shown)) == [], seed
        middle = [d.remaining_s / d.truth_s for d in shown[30:50] if d.remaining_s]
        assert len(middle) == 20
        assert all(0.6 < ratio < 1.6 for ratio in middle), (seed, middle)


def count_in_stages(now_s: float) -> int:
    """Ten steps a second, then one, then twenty."""
    return int(10 * min(now_s, 300) + max(0, min(now_s, 1300) - 300) + 20 * max(0, now_s - 1300))


def test_stages_of_different_speed_bend_it_and_do_not_break_it():
    shown = replay(count_in_stages, 1500)
    assert list(find_jumps(shown)) == []
    assert all(display.remaining_s for display in shown if display.at_s > 20)


def test_it_is_not_shown_on_the_evidence_of_one_step():
    estimator = PaceEstimator()
    assert estimator.observe(0, 0, 50) == Pace()
    assert estimator.observe(1, 1, 50) == Pace(1.0, None)  # jobs that were there already, as a rule
    assert estimator.observe(301, 2, 50).remaining_s is None
    assert estimator.observe(601, 3, 50).remaining_s == pytest.approx(47 * 300, rel=0.5)


def test_an_estimate_that_was_worthless_is_withdrawn_before_a_new_one_is_shown():
    estimator, now_s = PaceEstimator(), 0.0
    for done in range(21):
        shown = estimator.observe(now_s := now_s + 1, done, 60).remaining_s
    assert shown == pytest.approx(40)
    shown = [
        estimator.observe(now_s := now_s + 600, done, 60).remaining_s for done in (21, 22, 23, 24)
    ]
    assert shown[0] is None
    assert shown[-1] == pytest.approx(36 * 600, rel=0.3)


def test_a_new_attempt_and_new_work_start_again():
    estimator = PaceEstimator()
    for second in range(30):
        shown = estimator.observe(second, second, 100)
    assert shown.remaining_s == pytest.approx(71)
    assert estimator.observe(30, 30, 1030).remaining_s == pytest.approx(1000)
    assert estimator.observe(31, 2, 1030) == Pace()
    assert estimator.observe(32, 7, 1030) == Pace(5.0, None)
