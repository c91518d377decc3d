"""Whether ranks among decoys are lower than chance explains: four exact tests and their joint
p-value.

The null hypothesis of all of them: an attacker who learnt nothing about a deleted sample is equally
likely to give it each rank among its decoys, as they are drawn alike. A sample with d decoys has one
of d + 1 ranks; samples may differ in d. In pure Python, as the light part has no numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from math import ceil, factorial, sqrt
from statistics import NormalDist

from shared.reporting.binomial import tail_of_sum

# Shares of the significance level (weighted Bonferroni). One person's p-value is 1 / (d + 1) at
# best, however clear the picture is, so that test has most.
MARGIN_SHARE, COUNT_SHARE, SUM_SHARE, CLEAREST_SHARE = 0.4, 0.25, 0.25, 0.1
MAX_EXACT_UNIFORM = 40  # uniform numbers whose sum is computed exactly; above, it is normal
MAX_STEPS = 1_000_000  # of an exact sum of ranks
GRID = 1_000_000


@dataclass(frozen=True)
class RankTests:
    """P-values of ranked samples."""

    count: float  # as many rank 1
    rank_sum: float  # ranks as low on the whole
    margin: float  # one sample identified by as wide a margin
    clearest: float  # as many rank 1 among those with the widest margins

    @property
    def p(self) -> float:
        """Of all together: chance gives a value this small with at most this probability."""
        return min(
            1.0,
            self.margin / MARGIN_SHARE,
            self.count / COUNT_SHARE,
            self.rank_sum / SUM_SHARE,
            self.clearest / CLEAREST_SHARE,
        )


def run_rank_tests(
    ranks: Sequence[int], decoys: Sequence[int], margins: Sequence[float]
) -> RankTests:
    """All tests on samples of one or several seeds.

    Args:
        ranks: of each sample among its decoys, 1 is identified.
        decoys: of each sample, at least 1.
        margins: of each sample in dB; see `compute_margin_p`. Empty if unknown: all are taken as equal.
    """
    margins = margins or [0.0] * len(ranks)
    return RankTests(
        compute_count_p(ranks, decoys),
        compute_rank_sum_p(ranks, decoys),
        compute_margin_p(ranks, decoys, margins),
        compute_clearest_p(ranks, decoys, margins),
    )


def compute_count_p(ranks: Sequence[int], decoys: Sequence[int]) -> float:
    """Probability of as many samples of rank 1."""
    return tail_of_sum(sum(rank == 1 for rank in ranks), [1 / (d + 1) for d in decoys])


def compute_margin_p(
    ranks: Sequence[int], decoys: Sequence[int], margins: Sequence[float]
) -> float:
    """Probability that a sample is identified by a margin as wide as the widest seen.

    A margin is how much nearer the nearest of sample and decoys is than the second nearest. It does
    not depend on which of them is the sample, so given all margins, each nearest one is the sample
    with probability 1 / (d + 1), and the test is exact. One picture that is far clearer than all
    others therefore counts, whatever the number of deletions.
    """
    identified = [m for rank, m in zip(ranks, margins, strict=True) if rank == 1]
    if not identified:
        return 1.0
    widest, none_by_chance = max(identified), 1.0
    for d, margin in zip(decoys, margins, strict=True):
        none_by_chance *= d / (d + 1) if margin >= widest else 1.0
    return 1 - none_by_chance


def compute_clearest_p(
    ranks: Sequence[int], decoys: Sequence[int], margins: Sequence[float]
) -> float:
    """Probability of as many samples of rank 1 among the half, quarter, eighth and so on with the
    widest margins, corrected for the number of these parts.

    Who is among them does not depend on ranks: see `compute_margin_p`.
    """
    order = sorted(range(len(ranks)), key=lambda place: -margins[place])
    parts, size = [], len(ranks) // 2
    while size >= 2:
        clearest = order[:size]
        parts.append(compute_count_p([ranks[i] for i in clearest], [decoys[i] for i in clearest]))
        size //= 2
    return min([1.0, *(len(parts) * p for p in parts)])


def compute_own_p(
    ranks: Sequence[int], decoys: Sequence[int], margins: Sequence[float]
) -> list[float]:
    """Each sample's own p-value, corrected for the number of samples.

    Of an identified one: the probability that chance identifies any by as wide a margin (Westfall
    and Young 1993). Of the others: the number of samples times rank / (d + 1).
    """
    margins = margins or [0.0] * len(ranks)
    none_by_chance: dict[float, float] = {}
    product = 1.0
    for margin, d in sorted(zip(margins, decoys, strict=True), reverse=True):
        product *= d / (d + 1)
        none_by_chance[margin] = product
    return [
        1 - none_by_chance[margin] if rank == 1 else min(1.0, len(ranks) * rank / (d + 1))
        for rank, d, margin in zip(ranks, decoys, margins, strict=True)
    ]


def compute_rank_sum_p(ranks: Sequence[int], decoys: Sequence[int]) -> float:
    """Probability of ranks as low on the whole: of a sum of rank / (d + 1) as small.

    Exact if all have equally many decoys. Otherwise rank / (d + 1) is replaced by a uniform number
    between 0 and 1, which is never larger in distribution, so the p-value is at most too large.
    The sum of many is taken as normal, whose tails are heavier.
    """
    if not ranks:
        return 1.0
    sizes = [d + 1 for d in decoys]
    n, size = len(ranks), sizes[0]
    if len({*sizes}) == 1 and n * n * size <= MAX_STEPS:
        return _lower_tail_of_ranks(sum(ranks), n, size)
    total = sum(rank / size for rank, size in zip(ranks, sizes, strict=True))
    if n <= MAX_EXACT_UNIFORM:
        return _lower_tail_of_uniforms(total, n)
    mean = sum((size + 1) / (2 * size) for size in sizes)
    variance = sum((size * size - 1) / (12 * size * size) for size in sizes)
    half_step = 0.5 / max(sizes)
    return NormalDist(mean, sqrt(variance)).cdf(total + half_step)


@lru_cache(maxsize=512)
def _lower_tail_of_ranks(total: int, n: int, size: int) -> float:
    """Probability that n independent ranks, each 1 to `size`, have at most this sum."""
    # ways[s]: probability that the ranks so far, each less 1, have the sum s
    reach = min(total - n, n * (size - 1))
    ways = [1.0] + [0.0] * reach
    for _ in range(n):
        below = [0.0, *accumulate(ways)]
        ways = [(below[s + 1] - below[max(0, s + 1 - size)]) / size for s in range(reach + 1)]
    return min(1.0, sum(ways))


def _lower_tail_of_uniforms(total: float, n: int) -> float:
    """Probability that n uniform numbers between 0 and 1 have at most this sum (Irwin 1927, Hall
    1927), in whole numbers: terms alternate and cancel."""
    steps = ceil(total * GRID - 1e-6)
    if steps >= n * GRID:
        return 1.0
    ways, binomial = 0, 1
    for k in range(steps // GRID + 1):
        ways += (-1) ** k * binomial * (steps - k * GRID) ** n
        binomial = binomial * (n - k) // (k + 1)
    return float(ways / (factorial(n) * GRID**n))
