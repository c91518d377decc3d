"""Intervals of 95 %: bootstrap-t or BCa for means of scores, an expanded percentile bootstrap for
ratios, Wilson for proportions."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from statistics import NormalDist
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from shared.ml.context import make_generator

Interval = tuple[float, float]
NORMAL = NormalDist()
BATCH = 64  # jackknife samples at a time: all at once would take n * n numbers
MIN_VALUES = 5  # with fewer there is no interval: resamples of four values say little
# from here on BCa: it is cheaper to trust with many values, and covers less with few
# (benchmarks/statistics.py)
MIN_BCA = 100
WIDEST = 1e6  # ends of an interval; nearly equal values have resamples of nearly no spread
WIDEST_RATIO = 1e12  # the largest losses are 1e6, the smallest differences 1e-6


def choose_interval(n: int) -> str:
    """The name of the interval of a mean of n values: bootstrap_t or bca."""
    return "bca" if n >= MIN_BCA else "bootstrap_t"


def compute_interval(values: Sequence[float]) -> Interval | None:
    """Interval of the mean: bootstrap-t below 100 values, else BCa; None for fewer than 5."""
    if len(values) < MIN_VALUES:
        return None
    return bca(values) if choose_interval(len(values)) == "bca" else bootstrap_t(values)


def bootstrap_t(
    values: Sequence[float], resamples: int = 10_000, level: float = 0.95
) -> Interval | None:
    """Bootstrap-t interval of the mean; None for fewer than 2 values.

    The quantiles of (mean of a resample - mean) / (its standard error) take the place of Student's,
    so skewed scores get a skewed interval. Resamples of equal values have no standard error and
    are left out. Seeded, so equal values give equal intervals. Source: Efron 1981; Hall 1988.
    """
    n = len(values)
    if n < 2:
        return None
    x = torch.tensor(values, dtype=torch.float64)
    mean, spread = x.mean().item(), x.std().item()
    if spread <= 1e-12 * max(1.0, abs(mean)):
        return mean, mean
    low, high = draw_t_quantiles(x.unsqueeze(0), resamples, level)[0].tolist()
    error = spread / math.sqrt(n)
    return max(-WIDEST, mean - high * error), min(WIDEST, mean - low * error)


def draw_t_quantiles(x: torch.Tensor, resamples: int, level: float) -> torch.Tensor:
    """Quantiles of the studentised mean of resamples of each row. [T, n] -> [T, 2]."""
    n = x.shape[1]
    picks = torch.randint(n, (resamples, n), generator=make_generator(0, "bootstrap_t"))
    drawn = x[:, picks]
    errors = drawn.std(2) / math.sqrt(n)
    has_spread = errors > 1e-9 * x.std(1, keepdim=True) / math.sqrt(n)
    t = (drawn.mean(2) - x.mean(1, keepdim=True)) / errors
    t = torch.where(has_spread, t, torch.nan)
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=x.dtype)
    return t.nanquantile(ends, dim=1).T


def bca(values: Sequence[float], resamples: int = 4000, level: float = 0.95) -> Interval | None:
    """Bias-corrected and accelerated bootstrap interval of the mean; None for fewer than 2 values.

    Resampling is seeded, so equal values give equal intervals. Source: Efron 1987.
    """
    n = len(values)
    if n < 2:
        return None
    # takes a second: few processes need it
    from scipy.stats import DegenerateDataWarning, bootstrap

    x = torch.tensor(values, dtype=torch.float64)
    picks = torch.randint(n, (resamples, n), generator=make_generator(0, "bca"))
    # scipy draws with numpy's generators only: it is given means that are drawn already
    drawn = SimpleNamespace(bootstrap_distribution=x[picks].mean(1).numpy())
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", DegenerateDataWarning)
        low, high = bootstrap(
            (x.numpy(),), _mean, n_resamples=0, bootstrap_result=drawn, batch=BATCH,
            confidence_level=level, method="BCa",
        ).confidence_interval  # fmt: skip
    if math.isnan(low) or math.isnan(high):  # all values are equal
        return x.mean().item(), x.mean().item()
    return float(low), float(high)


def _mean(rows: Any, axis: int) -> Any:
    """torch's: the last digit decides whether a resample's mean equals that of the values."""
    return torch.tensor(rows).mean(axis).numpy()


def bootstrap_ratio(
    numerators: torch.Tensor, denominators: torch.Tensor, resamples: int = 10_000
) -> Interval | None:
    """Interval of (mean of the numerators) / (mean of the denominators), paired; None for fewer
    than 5 pairs.

    The expanded percentile bootstrap: percentiles of resamples' ratios, as far out as Student's t
    for this n. Where few pairs make up most of both sums, the interval stays among ratios that the
    pairs have; one by the ratio's linear expansion does not, and covers less (docs/statistics.md).
    A resample whose denominators do not add up to more than zero has a ratio without end. Seeded.
    Source: Hesterberg 2015.

    Args:
        numerators, denominators: [n], float64.
    """
    from scipy.special import ndtr, stdtrit

    n = len(numerators)
    if n < MIN_VALUES:
        return None
    picks = torch.randint(n, (resamples, n), generator=make_generator(0, "bootstrap_ratio"))
    above, below = numerators[picks].mean(1), denominators[picks].mean(1)
    endless = torch.where(above < 0, -torch.inf, torch.inf)
    ratios = torch.where(below > 0, above / below, endless).sort().values
    tail = float(ndtr(-math.sqrt(n / (n - 1)) * stdtrit(n - 1, 0.975)))
    place = int(tail * (resamples - 1))
    low, high = ratios[place].item(), ratios[resamples - 1 - place].item()
    return max(low, -WIDEST_RATIO), min(high, WIDEST_RATIO)


def wilson(successes: float, n: int, level: float = 0.95) -> Interval | None:
    """Wilson's interval of a proportion; None for n = 0. 8 of 8 is (0.676, 1). Source: Wilson
    1927."""
    if n == 0:
        return None
    z = NORMAL.inv_cdf((1 + level) / 2)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)
