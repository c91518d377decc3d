"""Whether some samples score above others: the interval and the p-value of an AUC."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from shared.ml.statistics import NORMAL, Interval

# Relabelings: the smallest p is 1 in 20,000, which leaves room for a correction; of many candidates
# fewer, 1 in 2,000.
DRAWS, FEW_DRAWS = 19_999, 1999
MAX_DRAWN = 50_000_000  # numbers that are drawn for all relabelings
CHUNK = 2_000_000  # numbers at a time


def compute_wins(own: Tensor, others: Tensor) -> Tensor:
    """Whether each scores above each of `others`, 0.5 for a tie. [N] and [N, M] -> float64 [N,
    M]."""
    scores = own.unsqueeze(1)
    return (scores > others).double() + 0.5 * (scores == others).double()


def midranks(scores: Tensor) -> Tensor:
    """Ranks from 1 along the last dimension, ties at their mean. [..., n] -> float64 [..., n]."""
    from scipy.stats import rankdata  # takes a second: few processes need it

    return torch.from_numpy(rankdata(scores.numpy(), axis=-1))


def auc_interval(wins: Tensor, weights: Tensor, strata: Tensor, units: Tensor) -> Interval:
    """95 % interval of an AUC, where each of n samples is compared with the others of its stratum.

    Newcombe's for small samples (2006, method 5: the variance of Hanley and McNeil, solved as
    Wilson does, so that an AUC of 1 has a width), wider by as much as the variance of DeLong
    (1988), taken over units (Obuchowski 1997), is larger.

    Args:
        wins: [n, m] in [0, 1], whether each scores above each other; a tie is 0.5.
        weights: [n, m], of each comparison; each row sums to 1.
        strata: int64 [m], of the others.
        units: int64 [n], samples of one unit were drawn together; a single unit counts by sample.
    """
    n, m = wins.shape
    shares = (wins * weights).sum(1)
    auc = min(1.0, round(shares.mean().item(), 12))  # weights do not add up to 1 in the last digit
    of_unit = _means(shares, units) if len(units.unique()) > 1 else shares
    spread = of_unit.var().item() / len(of_unit) if len(of_unit) > 1 else 0.0
    added = (wins * weights).sum(0) / n
    for stratum in strata.unique():
        theirs = added[strata == stratum]
        spread += len(theirs) * theirs.var().item() if len(theirs) > 1 else 0.0
    known = _hanley(auc, n, m)
    wider = max(1.0, spread / known) if known > 0 else 1.0
    z = NORMAL.inv_cdf(0.975)

    def near(theta: float) -> bool:
        return abs(theta - auc) <= z * math.sqrt(wider * _hanley(theta, n, m))

    return _last(near, auc, 0.0), _last(near, auc, 1.0)


def _means(values: Tensor, units: Tensor) -> Tensor:
    places, counts = units.unique(return_inverse=True, return_counts=True)[1:]
    return torch.zeros(len(counts), dtype=values.dtype).index_add_(0, places, values) / counts


def _hanley(auc: float, n: int, m: int) -> float:
    """Variance of an AUC of n samples against m, with both groups' own spread taken as of one size
    (Newcombe 2006)."""
    half = (n + m) / 2 - 1
    return auc * (1 - auc) * (1 + half * (1 - auc) / (2 - auc) + half * auc / (1 + auc)) / (n * m)


def _last(near: Callable[[float], bool], start: float, end: float) -> float:
    """The last value from `start`, which is near, towards `end` that is near."""
    if near(end):
        return end
    for _ in range(50):
        middle = (start + end) / 2
        start, end = (middle, end) if near(middle) else (start, middle)
    return start


def rank_sum_p(
    strata: Sequence[tuple[Tensor, int]], generator: torch.Generator
) -> tuple[float, float] | None:
    """One-sided p-values: the probabilities that the first k in each stratum score this high, and
    this low, if they are a random draw.

    Exact if each stratum is exchangeable and strata are independent: p = (1 + b) / (B + 1), with B
    relabelings of which b give a sum of wins as high (low). Source: van Elteren 1960, by sampling.

    Args:
        strata: ranks or other values [k + m] with k, 0 < k < k + m.

    Returns:
        None where there is no stratum.
    """
    if not strata:
        return None
    numbers = sum(len(values) for values, _ in strata)
    draws = DRAWS if numbers * DRAWS <= MAX_DRAWN else FEW_DRAWS
    seen, drawn = 0.0, torch.zeros(draws, dtype=torch.float64)
    for values, k in strata:
        m = len(values) - k
        seen += values[:k].sum().item() / m
        rows = max(1, CHUNK // len(values))
        for start in range(0, draws, rows):
            own = drawn[start : start + rows]
            picks = torch.rand(len(own), len(values), generator=generator).argsort(1)[:, :k]
            own += values[picks].sum(1) / m
    high, low = int((drawn >= seen - 1e-9).sum()), int((drawn <= seen + 1e-9).sum())
    return (1 + high) / (draws + 1), (1 + low) / (draws + 1)


def split_randomly(n: int, parts: int, generator: torch.Generator) -> list[Tensor]:
    """The indices 0 to n - 1 in random order, dealt out to `parts` parts, int64 each."""
    order = torch.randperm(n, generator=generator)
    return [order[part::parts] for part in range(parts)]
