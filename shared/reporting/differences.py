"""How the score of an attack differs between two audits: by deletion where both have deleted the
same samples, otherwise between means."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from shared.reporting.models import Row
from shared.reporting.paired import Difference, group_by_deletion, pair
from shared.reporting.side_by_side import Group, score_group
from shared.roles import Role

NO_SEED = "the audits have no seed in common"
OTHER_SAMPLES = "other samples were deleted"
UNKNOWN_SAMPLES = "it is not recorded which samples were deleted"
SAME = "it is the same evaluation in both audits"
NO_VALUES = "there is no value for each deletion"

# the values of a metric of a row, one for each sample or deletion; None if they cannot be had
ReadValues = Callable[[Row, str], Sequence[float] | None]


def find_difference(first: Group, second: Group, read_values: ReadValues) -> Difference | None:
    """The second audit's score less that of the first; None if one of them has none, or another
    metric."""
    a, b = score_group(first), score_group(second)
    if a is None or b is None or (a.metric, a.unit) != (b.metric, b.unit):
        return None
    if {row.evaluation for row in first} == {row.evaluation for row in second}:
        return Difference(0.0, reason=SAME)
    others = {row.seed: row for row in second}
    before: list[float] = []
    after: list[float] = []
    reason = NO_SEED
    for row in first:
        if (other := others.get(row.seed)) is None:
            continue
        pairs = _pair_rows(row, other, a.metric, read_values)
        if isinstance(pairs, str):
            reason = pairs
            continue
        before += pairs[0]
        after += pairs[1]
    if not before:
        return Difference(b.mean - a.mean, reason=reason)
    return pair(before, after)


def _pair_rows(
    row: Row, other: Row, metric: str, read_values: ReadValues
) -> tuple[list[float], list[float]] | str:
    """The values of both by deletion, or why they cannot be paired.

    Equal FORGET_SETS name the same samples of the same data, in the same order.
    """
    samples, other_samples = row.inputs.get(Role.FORGET_SETS), other.inputs.get(Role.FORGET_SETS)
    if samples is None or other_samples is None:
        return UNKNOWN_SAMPLES
    if samples != other_samples or (row.deletions, row.size) != (other.deletions, other.size):
        return OTHER_SAMPLES
    by_row = []
    for one in (row, other):
        values = read_values(one, metric)
        by_deletion = None if values is None else group_by_deletion(values, one.deletions, one.size)
        if not by_deletion:
            return NO_VALUES
        by_row.append(by_deletion)
    return by_row[0], by_row[1]
