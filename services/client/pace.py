"""The rate of progress and the time left, smoothed over bursts and pauses."""

from __future__ import annotations

import math
from dataclasses import dataclass

MIN_MEMORY_S = 30.0  # the rate averages over this, or over half of the watched time if longer
# the most that one update may move the remaining time away from counting down
MAX_STEP = math.log(1.4)
MAX_DROP = 1.55  # the most that one update may divide it by, counting down included
# an update that follows sooner may change it by a proportional part of that
STEP_AFTER_S = 6.0
AGREEMENT = math.log(1.3)  # two estimates in a row that differ by less agree
CONTRADICTION = math.log(4)  # a new estimate that differs by more invalidates the one shown
MIN_WATCHED_S = 10.0  # before that, the first steps are not representative


@dataclass(frozen=True)
class Pace:
    """`steps_per_s` is None before the first step; `remaining_s` is None while estimates
    disagree."""

    steps_per_s: float | None = None
    remaining_s: float | None = None


class PaceEstimator:
    """Updates the pace with each observation of progress.

    The rate is steps over seconds, both exponentially weighted. The remaining time is shown once
    two estimates in a row agree; from then on it counts down and moves towards the newest estimate,
    by a limited factor each time.
    """

    def __init__(self) -> None:
        self._interrupted = False
        self._forget()

    def _forget(self) -> None:
        self._last: tuple[float, float, float] | None = None  # time in s, steps done, steps in all
        self._watched_s = 0.0
        self._seconds = 0.0  # weighted
        self._steps = 0.0  # weighted
        self._estimate_s: float | None = None
        self._shown_s: float | None = None

    def skip_gap(self) -> None:
        """Ignore the time until the next observation: this machine was asleep."""
        self._interrupted = True

    def observe(self, now_s: float, done: float, total: float) -> Pace:
        """Add one observation: `done` of `total` steps at the time `now_s` of a monotonic clock."""
        if self._last is None or done < self._last[1]:  # the beginning, or a new attempt
            self._forget()
            self._last = (now_s, done, total)
            return Pace()
        (then_s, before, total_before), self._last = self._last, (now_s, done, total)
        elapsed_s = now_s - then_s
        work_changed = self._interrupted or total != total_before
        if not self._interrupted:
            self._add_interval(elapsed_s, done - before)
        self._interrupted = False
        if not (self._steps > 0 and self._seconds > 0):
            return Pace()
        rate = self._steps / self._seconds
        return Pace(rate, self._smooth((total - done) / rate, elapsed_s, work_changed))

    def _add_interval(self, elapsed_s: float, steps: float) -> None:
        self._watched_s += elapsed_s
        kept = math.exp(-elapsed_s / max(MIN_MEMORY_S, self._watched_s / 2))
        self._seconds = self._seconds * kept + elapsed_s
        self._steps = self._steps * kept + steps

    def _smooth(self, estimate_s: float, elapsed_s: float, work_changed: bool) -> float | None:
        """The remaining time to show, given the newest estimate of it."""
        previous_s, self._estimate_s = self._estimate_s, estimate_s
        if estimate_s <= 0:
            self._shown_s = None
        elif work_changed:  # the remaining work itself has changed
            self._shown_s = estimate_s
        elif self._shown_s is None:
            agree = (
                previous_s is not None
                and abs(_log_ratio(estimate_s, previous_s - elapsed_s)) < AGREEMENT
            )
            self._shown_s = estimate_s if agree and self._watched_s >= MIN_WATCHED_S else None
        else:
            expected_s = max(self._shown_s - elapsed_s, self._shown_s / math.exp(MAX_STEP))
            change, limit = (
                _log_ratio(estimate_s, expected_s),
                MAX_STEP * min(1.0, elapsed_s / STEP_AFTER_S),
            )
            if abs(change) > CONTRADICTION:
                self._shown_s = None
            else:
                moved_s = expected_s * math.exp(max(-limit, min(limit, change)))
                self._shown_s = max(moved_s, self._shown_s / MAX_DROP)
        return self._shown_s


def _log_ratio(one: float, other: float) -> float:
    return math.log(one / other) if one > 0 and other > 0 else math.inf
