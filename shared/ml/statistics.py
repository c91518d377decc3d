"""Intervals of 95 %: BCa bootstrap for means of scores, Wilson for proportions."""

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
