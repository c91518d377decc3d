"""Results expected by chance: binomial probabilities without overflow, and AUCs."""

from __future__ import annotations

from math import exp, lgamma, log, log1p, sqrt

LEVEL = 0.95


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
