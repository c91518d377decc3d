"""The finding of each attack on each release: seeds pooled, and tests corrected for their number."""

from __future__ import annotations

from collections.abc import Sequence

from shared.reporting.evaluations import method_key
from shared.reporting.evidence import correct_for_number
from shared.reporting.kinds import find_kind
from shared.reporting.models import Row


def pool_seeds(rows: Sequence[Row]) -> list[Row]:
    """The rows with the findings that count.

    Rows that differ only in their seed are one experiment: they have one test and one finding. The
    tests of a report are corrected together. A kind without a test keeps the finding of each row.
    """
    groups: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for place, row in enumerate(rows):
        key = tuple(method_key(one) for one in (row.unlearning, row.defense, row.attack))
        groups.setdefault(key, []).append(place)
    tested = []
    for places in groups.values():
        own = [rows[place] for place in places]
        kind = find_kind(own[0].metrics)
        if kind is not None and all(find_kind(row.metrics) is kind for row in own):
            p = kind.compute_p(own)
            if p is not None:
                tested.append((places, own, kind, p))
    corrected = correct_for_number([p for *_, p in tested])
    pooled = list(rows)
    for (places, own, kind, p), p_corrected in zip(tested, corrected, strict=True):
        finding = kind.decide_pooled(own, p, p_corrected)
        finding = finding.model_copy(update={"p": p, "p_corrected": p_corrected})
        for place in places:
            pooled[place] = rows[place].model_copy(update={"finding": finding})
    return pooled
