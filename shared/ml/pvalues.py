"""How often harmless updates look as guilty as this one: p-values for the auditor, who can make such updates.

Source: Westfall and Young 1993 (maximum statistic); Phipson and Smyth 2010 (the observed one counts as a draw).
"""

from __future__ import annotations

from torch import Tensor

from shared.errors import InvalidRequest

DRAWS = 199  # of a null, at least: with fewer no p-value lies far enough below 0.05 to survive a correction


def max_statistic_p(observed: Tensor, null: Tensor) -> Tensor:
    """P-values of updates of which nobody said which class to look at: (1 + b) / (B + 1).

    An update's statistic is its most suspicious class, so the choice of that class is paid for. b counts the null's
    updates that are at least as suspicious: ties count against the observed one. If the observed update is itself
    harmless, p <= a happens with probability a at most, whatever the scores' distribution.

    Args:
        observed: scores [D, K] of D updates for K classes, lower is likelier.
        null: [B, K], the same scores of B updates that forgot nothing, B >= 199.

    Returns:
        float64 [D], 1 / (B + 1) at least and 1 at most.

    Raises:
        InvalidRequest: the null is too small, the classes are not the same, or a score is not finite.
    """
    if null.dim() != 2 or observed.dim() != 2 or null.shape[1] != observed.shape[1]:
        raise InvalidRequest(
            f"scores must be [D, K] and [B, K] of the same K classes, got {[*observed.shape]} and {[*null.shape]}"
        )
    if len(null) < DRAWS:
        raise InvalidRequest(f"a null needs {DRAWS} harmless updates at least, got {len(null)}: make more")
    for name, scores in (("observed", observed), ("null", null)):
        if not bool(scores.isfinite().all()):
            raise InvalidRequest(f"the {name} scores must be finite")
    lowest, theirs = observed.double().amin(1), null.double().amin(1)
    guilty = (theirs <= lowest.unsqueeze(1)).sum(1)
    return (1 + guilty).double() / (len(null) + 1)
