"""Intervals of 95 %: BCa bootstrap for means of scores, Wilson for proportions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import torch

from shared.ml.context import generator

Interval = tuple[float, float]
NORMAL = NormalDist()


def bca(values: Sequence[float], resamples: int = 4000, level: float = 0.95) -> Interval | None:
    """Bias-corrected and accelerated bootstrap interval of the mean; None for fewer than 2 values.

    Resampling is seeded, so equal values give equal intervals. Source: Efron 1987.
    """
    n = len(values)
    if n < 2:
        return None
    x = torch.tensor(values, dtype=torch.float64)
    mean = x.mean()
    picks = torch.randint(n, (resamples, n), generator=generator(0, "bca"))
    means = x[picks].mean(1).sort().values
    below = ((means < mean).sum() + 0.5 * (means == mean).sum()).item() / resamples
    if not 0 < below < 1 or bool((x == x[0]).all()):
        return mean.item(), mean.item()
    bias = NORMAL.inv_cdf(below)
    jackknife = (x.sum() - x) / (n - 1)
    spread = jackknife.mean() - jackknife
    denominator = 6 * spread.square().sum().item() ** 1.5
    acceleration = spread.pow(3).sum().item() / denominator if denominator > 0 else 0.0

    def end(share: float) -> float:
        z = bias + NORMAL.inv_cdf(share)
        adjusted = NORMAL.cdf(bias + z / (1 - acceleration * z))
        return float(means.quantile(adjusted))

    tail = (1 - level) / 2
    return end(tail), end(1 - tail)


def wilson(successes: float, n: int, level: float = 0.95) -> Interval | None:
    """Wilson's interval of a proportion; None for n = 0. 8 of 8 is (0.676, 1). Source: Wilson 1927."""
    if n == 0:
        return None
    z = NORMAL.inv_cdf((1 + level) / 2)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)
