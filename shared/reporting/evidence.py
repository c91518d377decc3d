"""How much evidence a rule asks for, before a row is said to leak or not to be seen leaking."""

from __future__ import annotations

from shared.reporting.binomial import chance_of
from shared.reporting.models import Finding, Score

FEW = 5  # below it, nothing seen is nothing learned: Wilson's interval of 0 of 4 reaches 0.49
TAIL = 0.025  # one side of 95 %


def chance_of_share(score: Score, baseline: float) -> float:
    """How often chance gives a share as high, where each answer is right with probability `baseline`."""
    return chance_of(int(score.mean * score.n + 1e-9), score.n, baseline)


def not_seen(n: int, reason: str) -> Finding:
    """No leak was seen; in fewer than `FEW` samples that is undecided."""
    if n < FEW:
        return Finding(outcome="inconclusive", reason=f"{reason} With n = {n} that shows nothing.")
    return Finding(outcome="not_seen", reason=reason)
