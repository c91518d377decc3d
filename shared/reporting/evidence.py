"""How much evidence a rule asks for, before a row is said to leak or not to be seen leaking."""

from __future__ import annotations

from shared.reporting.binomial import chance_of
from shared.reporting.models import Finding, Score

# below it, nothing seen is nothing learned: Wilson's interval of 0 of 4 reaches 0.49
MIN_SAMPLES = 5
TAIL = 0.025  # one side of 95 %


def compute_chance(score: Score, baseline: float) -> float:
    """How often chance gives a share as high, where each answer is right with probability
    `baseline`."""
    return chance_of(int(score.mean * score.n + 1e-9), score.n, baseline)


def build_not_seen(n: int, reason: str) -> Finding:
    """No leak was seen; in fewer than `FEW` samples that is undecided."""
    if n < MIN_SAMPLES:
        return Finding(
            outcome="inconclusive", reason=f"{reason} With n = {n} this is not conclusive."
        )
    return Finding(outcome="not_seen", reason=reason)
