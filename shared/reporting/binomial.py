"""Results expected by chance: binomial probabilities without overflow, and AUCs."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, lgamma, log, log1p, sqrt

LEVEL = 0.95
MAX_STEPS = 1_000_000  # of an exact computation: less than a second


def probabilities(n: int, share: float) -> dict[int, float]:
    """Probability by number of successes; unlikely numbers (less than 1e-20 in total) are left
    out."""
    if share in (0, 1):
        return {round(n * share): 1.0}
    mean, reach = n * share, 10 * sqrt(n * share * (1 - share)) + 50  # by Bernstein's inequality
    counts = range(max(0, int(mean - reach)), min(n, int(mean + reach)) + 1)

    def logarithm(k: int) -> float:
        ways = lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
        return ways + k * log(share) + (n - k) * log1p(-share)

    return {k: exp(logarithm(k)) for k in counts}


def chance_of(successes: int, n: int, share: float) -> float:
    """Probability of at least this many successes in n trials, each with success probability
    `share`."""
    return min(1.0, sum(p for k, p in probabilities(n, share).items() if k >= successes))


def chance_band(n: int, share: float) -> tuple[float, float]:
    """The central 95 % of the share of correct answers among n, each correct with probability
    `share`."""
    below, low = 0.0, None
    for k, p in probabilities(n, share).items():
        below += p
        if low is None and below > (1 - LEVEL) / 2:
            low = k / n
        if below >= 1 - (1 - LEVEL) / 2:
            return low or 0.0, k / n
    return low or 0.0, 1.0


def auc_band(n: int, others: int) -> tuple[float, float]:
    """The central 95 % of the AUC of n samples against others if all are alike (normal
    approximation)."""
    reach = 1.96 * sqrt((n + others + 1) / (12 * n * others))
    return max(0.0, 0.5 - reach), min(1.0, 0.5 + reach)


def tail_of_sum(successes: int, chances: Sequence[float]) -> float:
    """Probability of at least this many successes in independent trials, each with its own chance
    (Poisson-binomial).

    Beyond `MAX_STEPS` it is bounded by the binomial tail of the mean chance, which is never smaller
    from one above the mean upwards (Hoeffding 1956), and by 1 below.
    """
    n, mean = len(chances), sum(chances) / max(1, len(chances))
    if successes <= 0:
        return 1.0
    if len({*chances}) <= 1:
        return chance_of(successes, n, mean)
    if n * successes > MAX_STEPS:
        return chance_of(successes, n, mean) if successes >= n * mean + 1 else 1.0
    # below[k]: the probability of k successes so far, for fewer than are asked for
    below = [1.0] + [0.0] * (successes - 1)
    reached = 0.0
    for chance in chances:
        reached += below[-1] * chance
        for k in range(successes - 1, 0, -1):
            below[k] = below[k] * (1 - chance) + below[k - 1] * chance
        below[0] *= 1 - chance
    return min(1.0, reached)


def share_not_excluded(successes: int, n: int) -> float:
    """The largest share that this few successes do not exclude at 95 % (Clopper and Pearson 1934,
    one-sided): 0.31 for 0 of 8."""
    low, high = successes / n, 1.0
    if successes == n:
        return 1.0
    for _ in range(40):
        middle = (low + high) / 2
        # at most this many successes
        is_likely = 1 - chance_of(successes + 1, n, middle) > 1 - LEVEL
        low, high = (middle, high) if is_likely else (low, middle)
    return low
