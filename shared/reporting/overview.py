"""The overview: one line per release, one column per attack, all seeds combined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from shared.reporting.evaluations import method_key
from shared.reporting.forgetting import OUTCOMES as FORGETTING_OUTCOMES
from shared.reporting.forgetting import STATE_NAMES, find_way
from shared.reporting.formatting import (
    Names,
    format_gain,
    format_interval,
    format_number,
    group_by_release,
    list_columns,
    matches_attack,
    pluralise,
)
from shared.reporting.kinds import collect_baseline_names, find_main_metric, list_kinds
from shared.reporting.models import Finding, Method, Outcome, Row, Utility
from shared.reporting.unscored import summarise_unscored

OUTCOMES: dict[Outcome, str] = {
    "leak": "Leaks",
    "not_seen": "Not seen",
    "inconclusive": "Inconclusive",
}
WORST_FIRST: tuple[Outcome, ...] = ("leak", "inconclusive", "not_seen")


@dataclass(frozen=True)
class Cell:
    """One attack on one release."""

    outcome: Outcome
    word: str
    score: str
    interval: str
    gain: str
    count: str | None
    baseline: str
    seeds: str


@dataclass(frozen=True)
class ReleaseLine:
    """One release: a row of the overview, and a number on the charts."""

    mark: str
    unlearning: str
    exact: bool | None
    defense: str
    utility: Utility | None
    forgotten: str | None
    forgotten_outcome: str | None
    rows: list[Row]
    cells: list[Cell | None]


def build_overview(
    rows: Sequence[Row], names: Names, shown: Sequence[Row] | None = None
) -> list[ReleaseLine]:
    """One line per release, in the order of the audit.

    Args:
        shown: the rows to show, all if None: releases keep their numbers, in the order of these.
    """
    groups = {
        _get_release_key(group[0]): (str(place), group)
        for place, group in enumerate(group_by_release(rows), start=1)
    }
    if shown is not None:
        groups = {
            (key := _get_release_key(group[0])): (groups[key][0], group)
            for group in group_by_release(shown)
        }
    attacks = list_columns(rows if shown is None else shown)
    return [build_release_line(mark, group, attacks, names) for mark, group in groups.values()]


def _get_release_key(row: Row) -> tuple[tuple[str, str], tuple[str, str]]:
    return method_key(row.unlearning), method_key(row.defense)


def build_release_line(
    mark: str, group: list[Row], attacks: Sequence[Method], names: Names
) -> ReleaseLine:
    """The line of one release, with a cell for each of the attacks."""
    way = find_way(group)
    return ReleaseLine(
        mark=mark,
        unlearning=names(group[0].unlearning),
        exact=group[0].unlearning.exact,
        defense=name_defense(group, names),
        utility=average_utility(group),
        forgotten=STATE_NAMES[way.state] if way else None,
        forgotten_outcome=FORGETTING_OUTCOMES[way.state] if way else None,
        rows=group,
        cells=[build_cell([r for r in group if matches_attack(r, attack)]) for attack in attacks],
    )


def name_defense(rows: Sequence[Row], names: Names) -> str:
    """The defense with its strength, or `strength by seed` if seeds differ."""
    defense_names = list(dict.fromkeys(names(row.defense) for row in rows))
    return (
        defense_names[0]
        if len(defense_names) == 1
        else f"{names.name_choice(rows[0].defense)} (strength by seed)"
    )


def average_utility(rows: Sequence[Row]) -> Utility | None:
    """Mean over seeds; attacks on one release share it."""
    known = list({row.seed: row.utility for row in rows if row.utility}.values())
    if not known:
        return None
    fields = [name for name in Utility.model_fields if name.endswith("_accuracy")]
    accuracies = {
        name: [v for one in known if (v := getattr(one, name)) is not None] for name in fields
    }
    return Utility.model_validate(
        {name: fmean(values) if values else None for name, values in accuracies.items()}
    )


def build_cell(rows: Sequence[Row]) -> Cell | None:
    """All seeds of one attack on one release: the worst outcome, and how often it occurred."""
    if rows and all(row.unscored for row in rows):
        return _build_unscored_cell(rows)
    scored = [(row, name) for row in rows if (name := find_main_metric(row.metrics))]
    if not scored:
        return None
    parts = [row.metrics[name] for row, name in scored]
    outcome = find_worst_outcome([row.finding for row in rows])
    share = sum(row.finding.outcome == outcome for row in rows)
    unit, short = parts[0].unit, collect_baseline_names()
    short_names = list(
        dict.fromkeys(
            short.get(part.baseline_name or "", part.baseline_name or "none") for part in parts
        )
    )
    baseline = _format_span([part.baseline for part in parts if part.baseline is not None], unit)
    return Cell(
        outcome=outcome,
        word=OUTCOMES[outcome],
        score=_format_span([part.mean for part in parts], unit),
        interval=format_interval(parts[0].low, parts[0].high, unit) if len(parts) == 1 else "",
        gain=format_gain(parts[0])
        if len(parts) == 1
        else _format_span([part.gain for part in parts if part.gain is not None], unit, sign=True),
        count=", ".join(words for kind in list_kinds() if (words := kind.describe_counts(rows)))
        or None,
        baseline=f"{baseline} ({short_names[0] if len(short_names) == 1 else 'strongest'})",
        seeds=f"in {share} of {pluralise(len(rows), 'seed')}, n = {parts[0].n} each"
        if len(rows) > 1
        else f"n = {parts[0].n}",
    )


def _build_unscored_cell(rows: Sequence[Row]) -> Cell:
    """What came back without a truth; of several seeds, in the first one."""
    unscored = rows[0].unscored
    return Cell(
        outcome="inconclusive",
        word=OUTCOMES["inconclusive"],
        score="",
        interval="",
        gain="",
        count=f"not scored: {summarise_unscored(unscored)}" if unscored else None,
        baseline="",
        seeds=f"seed {rows[0].seed} of {len(rows)}" if len(rows) > 1 else "",
    )


def find_worst_outcome(findings: Sequence[Finding]) -> Outcome:
    return min((finding.outcome for finding in findings), key=WORST_FIRST.index)


def _format_span(values: Sequence[float], unit: str, sign: bool = False) -> str:
    """The mean of one seed, or the range over several."""
    if not values:
        return "—"
    ends = [format_number(end, unit, sign) for end in (min(values), max(values))]
    return ends[0] if ends[0] == ends[1] else f"{ends[0].removesuffix(' dB')} to {ends[1]}"
