"""How much evidence the rules require before a row counts as leaking or as not seen leaking."""

from __future__ import annotations

from collections.abc import Sequence

from shared.reporting.binomial import chance_of
from shared.reporting.models import Finding, Score

# with fewer, "not seen" means little: 0 of 4 does not exclude a share of 0.53
MIN_SAMPLES = 5
TAIL = 0.025  # one side of 95 %; of all tests in a report together
SUSPICIOUS = 0.05  # a p-value this low is never "not seen", even if it is not significant


def compute_chance(score: Score, baseline: float) -> float:
    """Probability of a share this high by chance, if each answer is correct with probability
    `baseline`."""
    return chance_of(int(score.mean * score.n + 1e-9), score.n, baseline)


def correct_for_number(p_values: Sequence[float]) -> list[float]:
    """P-values such that any false one is at most `a` with probability `a` (Holm 1979)."""
    corrected, least = [0.0] * len(p_values), 0.0
    for done, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = max(least, min(1.0, (len(p_values) - done) * p_values[place]))
        corrected[place] = least
    return corrected


def build_not_seen(n: int, reason: str) -> Finding:
    """No leak was seen; with fewer than `MIN_SAMPLES` samples this is inconclusive."""
    if n < MIN_SAMPLES:
        return Finding(
            outcome="inconclusive", reason=f"{reason} With n = {n} this is not conclusive."
        )
    return Finding(outcome="not_seen", reason=reason)
