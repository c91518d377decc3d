"""Whether the samples were forgotten, in a sentence of the verdict card."""

from __future__ import annotations

from collections.abc import Sequence

from shared.reporting.forgetting import (
    TOO_LITTLE,
    WORST_FIRST,
    State,
    Way,
    find_way,
)
from shared.reporting.forgetting_tests import format_ends, format_share
from shared.reporting.formatting import count_of, group_by_release
from shared.reporting.models import Row


def summarise_forgetting(rows: Sequence[Row]) -> str:
    """For the verdict card: whether the samples were forgotten, in one sentence without names."""
    ways = [way for group in group_by_release(rows) if (way := find_way(group)) is not None]
    if not ways:
        return "Whether the released models have forgotten the samples was not measured."
    if len(ways) == 1:
        return _describe_way(ways[0])
    by_state = {state: [way for way in ways if way.state == state] for state in WORST_FIRST}
    good = sum(way.state not in TOO_LITTLE for way in ways)
    number = count_of(good, len(ways), "variants of unlearning and defense")
    clauses = [f"The released models have forgotten the samples in {number}"]
    if uncertain := sum(way.is_uncertain for way in ways):
        clauses.append(f"in {uncertain} this is uncertain")
    counted: tuple[tuple[State, str], ...] = (
        ("nothing", "nothing was unlearned"),
        ("little", "too little was unlearned"),
        ("unknown", "it cannot be measured"),
        ("disputed", "they did on average, but are closer to the original in tests"),
        ("excess", "they were forgotten too thoroughly, which can give them away"),
    )
    for state, words in counted:
        if some := by_state[state]:
            clauses.append(f"in {len(some)} {words}")
    return "; ".join(clauses) + "."


def _describe_way(way: Way) -> str:
    """The sentence about a single release."""
    share = f"way to retraining: {format_share(way.value)}"
    if way.is_uncertain:
        share += f", but uncertain, {format_ends(way.low, way.high)}"
    start = "The released models have"
    sentences: dict[State, str] = {
        "nothing": f"{start} not forgotten the samples: they treat them as the original does "
        f"({share}).",
        "little": f"{start} hardly forgotten the samples ({share}).",
        "unknown": "Whether the released models have forgotten the samples cannot be measured: "
        f"{way.reason}.",
        "disputed": "Whether the released models have forgotten the samples is disputed: their mean "
        f"loss on them went far enough ({share}), but tests find them closer to the original; the "
        f"loss has risen on {way.risen} of {way.deletions} deletions, after retraining on "
        f"{way.risen_retrained}.",
        "excess": f"{start} forgotten the samples too thoroughly, which can give them away: they "
        f"treat them worse than models that never saw them ({share}).",
        "forgotten": f"{start} forgotten the samples: their loss on them went at least a quarter "
        f"of the way to that of models retrained without them ({share}).",
        "exact": f"{start} forgotten the samples: the unlearning is exact, and they never saw them.",
    }
    return sentences[way.state]
