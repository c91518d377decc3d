"""How much evidence the rules require before a row counts as leaking or as not seen leaking."""

from __future__ import annotations

from shared.reporting.binomial import chance_of
from shared.reporting.models import Finding, Score

# with fewer, "not seen" means little: Wilson's interval of 0 of 4 reaches 0.49
MIN_SAMPLES = 5
TAIL = 0.025  # one side of 95 %


def compute_chance(score: Score, baseline: float) -> float:
    """Probability of a share this high by chance, if each answer is correct with probability
    `baseline`."""
    return chance_of(int(score.mean * score.n + 1e-9), score.n, baseline)


def build_not_seen(n: int, reason: str) -> Finding:
    """No leak was seen; with fewer than `MIN_SAMPLES` samples this is inconclusive."""
    if n < MIN_SAMPLES:
        return Finding(
            outcome="inconclusive", reason=f"{reason} With n = {n} this is not conclusive."
        )
    return Finding(outcome="not_seen", reason=reason)
