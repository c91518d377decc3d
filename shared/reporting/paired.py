"""Paired differences between two audits, with intervals of 95 %: in plain Python, for processes
without numpy.

Differences of means have the intervals of `shared.ml.statistics`: none below 5 values, bootstrap-t
below 100, BCa from there on. Resamples are fewer, as a page waits for them, and drawn by another
generator, so the ends differ in their last digits. Differences of proportions have Newcombe's.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist, fmean, stdev

MIN_VALUES, MIN_BCA = 5, 100
RESAMPLES = 2000
MAX_VALUES = 2000  # deletions of one comparison; with more, a page would take seconds
NORMAL = NormalDist()

Interval = tuple[float, float]


@dataclass(frozen=True)
class Difference:
    """A score of one audit less that of another, in the score's unit.

    n: pairs; 0 if it is the difference of two means.
    reason: why it is not paired, or has no interval; None if it has one.
    """

    mean: float
    low: float | None = None
    high: float | None = None
    n: int = 0
    reason: str | None = None

    @property
    def sign(self) -> int:
        """1 or -1 if the interval lies on one side of zero, else 0."""
        if self.low is None or self.high is None:
            return 0
        return 1 if self.low > 0 else -1 if self.high < 0 else 0


def pair(first: Sequence[float], second: Sequence[float]) -> Difference:
    """The mean of second - first over pairs, with its interval.

    Args:
        first, second: equally long, not empty, one value per deletion.
    """
    values = [b - a for a, b in zip(first, second, strict=True)]
    mean, n = fmean(values), len(values)
    if n < MIN_VALUES:
        return Difference(mean, n=n, reason=f"fewer than {MIN_VALUES} pairs have no interval")
    if n > MAX_VALUES:
        return Difference(
            mean, n=n, reason=f"no interval is computed of more than {MAX_VALUES} pairs"
        )
    if all(value in (0, 1) for value in (*first, *second)):
        return Difference(mean, *newcombe(first, second), n)
    if stdev(values) <= 1e-12 * max(1.0, abs(mean)):
        return Difference(mean, n=n, reason="all pairs differ by the same")
    return Difference(mean, *compute_interval(values), n)


def compute_interval(values: Sequence[float]) -> Interval:
    """The interval of the mean of at least 5 values that are not all equal. The same values give the
    same interval."""
    return bca(values) if len(values) >= MIN_BCA else bootstrap_t(values)


def bootstrap_t(values: Sequence[float]) -> Interval:
    """Bootstrap-t (Efron 1981; Hall 1988). Resamples of equal values have no standard error and are
    left out."""
    n, mean, spread = len(values), fmean(values), stdev(values)
    draw, errors = random.Random(0), []  # noqa: S311 - resampling
    for _ in range(RESAMPLES):
        resample = draw.choices(values, k=n)
        centre = sum(resample) / n
        variance = max(0.0, sum(x * x for x in resample) - n * centre * centre) / (n - 1)
        if variance > (1e-9 * spread) ** 2:
            errors.append((centre - mean) / sqrt(variance / n))
    errors.sort()
    step = spread / sqrt(n)
    return mean - _quantile(errors, 0.975) * step, mean - _quantile(errors, 0.025) * step


def bca(values: Sequence[float]) -> Interval:
    """Bias-corrected and accelerated bootstrap (Efron 1987)."""
    n, mean = len(values), fmean(values)
    draw = random.Random(0)  # noqa: S311 - resampling
    means = sorted(sum(draw.choices(values, k=n)) / n for _ in range(RESAMPLES))
    below = sum(one < mean for one in means) + 0.5 * sum(one == mean for one in means)
    bias = NORMAL.inv_cdf(min(max(below / RESAMPLES, 0.5 / RESAMPLES), 1 - 0.5 / RESAMPLES))
    # the jackknife: without one value the mean moves by (mean - value) / (n - 1)
    moves = [value - mean for value in values]
    squares = sum(move * move for move in moves)
    acceleration = sum(move**3 for move in moves) / (6 * squares**1.5)

    def place(level: float) -> float:
        z = bias + NORMAL.inv_cdf(level)
        return NORMAL.cdf(bias + z / (1 - acceleration * z))

    return _quantile(means, place(0.025)), _quantile(means, place(0.975))


def newcombe(first: Sequence[float], second: Sequence[float]) -> Interval:
    """Interval of the difference of two paired proportions (Newcombe 1998, method 10).

    Args:
        first, second: 0 or 1.
    """
    n = len(first)
    both = sum(a == b == 1 for a, b in zip(first, second, strict=True))
    neither = sum(a == b == 0 for a, b in zip(first, second, strict=True))
    lost = round(sum(first)) - both
    won = round(sum(second)) - both
    p, q = sum(first) / n, sum(second) / n
    (p_low, p_high), (q_low, q_high) = _wilson(p, n), _wilson(q, n)
    product = both * neither - lost * won
    margins = (both + lost) * (won + neither) * (both + won) * (lost + neither)
    corrected = max(0.0, product - n / 2) if product > 0 else float(product)
    phi = corrected / sqrt(margins) if margins else 0.0
    below, above = q - q_low, p_high - p
    low = q - p - sqrt(max(0.0, below**2 - 2 * phi * below * above + above**2))
    below, above = p - p_low, q_high - q
    return low, q - p + sqrt(max(0.0, below**2 - 2 * phi * below * above + above**2))


def _wilson(share: float, n: int) -> Interval:
    z = NORMAL.inv_cdf(0.975)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return centre - half, centre + half


def group_by_deletion(values: Sequence[float], deletions: int, size: int) -> list[float] | None:
    """One value per deletion: the mean of its samples. None if there are not as many values."""
    if len(values) == deletions:
        return list(values)
    if size < 1 or len(values) != deletions * size:
        return None
    return [fmean(values[start : start + size]) for start in range(0, len(values), size)]


def _quantile(ordered: Sequence[float], level: float) -> float:
    """Linear between the two nearest values."""
    at = level * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])
