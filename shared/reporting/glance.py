"""Every release beside every attack, all seeds together: what one sees first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from shared.reporting.kinds import baseline_names, kinds, main_metric
from shared.reporting.models import Finding, Outcome, Row, Utility
from shared.reporting.numbers import Names, by_release, columns_of, gained, interval, number, plural, shows

OUTCOMES: dict[Outcome, str] = {"leak": "Leaks", "not_seen": "Not seen", "inconclusive": "Inconclusive"}
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
    null: str
    seeds: str


@dataclass(frozen=True)
class Line:
    """One release: a row of the overview, and a number on the charts."""

    mark: str
    unlearning: str
    exact: bool | None
    defense: str
    utility: Utility | None
    rows: list[Row]
    cells: list[Cell | None]


def overview(rows: Sequence[Row], names: Names) -> list[Line]:
    """One line a release, in the order of the audit."""
    attacks = columns_of(rows)
    return [
        Line(
            mark=str(place),
            unlearning=names(group[0].unlearning),
            exact=group[0].unlearning.exact,
            defense=defense_name(group, names),
            utility=mean_utility(group),
            rows=group,
            cells=[cell([r for r in group if shows(r, attack)]) for attack in attacks],
        )
        for place, group in enumerate(by_release(rows), start=1)
    ]


def defense_name(rows: Sequence[Row], names: Names) -> str:
    """The defense with its strength, or all strengths where seeds chose differently."""
    told = list(dict.fromkeys(names(row.defense) for row in rows))
    return told[0] if len(told) == 1 else f"{names.choice(rows[0].defense)} (strength by seed)"


def mean_utility(rows: Sequence[Row]) -> Utility | None:
    """Mean over seeds; attacks on one release share it."""
    known = list({row.seed: row.utility for row in rows if row.utility}.values())
    if not known:
        return None
    fields = [name for name in Utility.model_fields if name.endswith("_accuracy")]
    told = {name: [v for one in known if (v := getattr(one, name)) is not None] for name in fields}
    return Utility.model_validate({name: fmean(values) if values else None for name, values in told.items()})


def cell(rows: Sequence[Row]) -> Cell | None:
    """All seeds of one attack on one release: the worst outcome, and how often it was that."""
    scored = [(row, name) for row in rows if (name := main_metric(row.metrics))]
    if not scored:
        return None
    parts = [row.metrics[name] for row, name in scored]
    outcome = worst([row.finding for row in rows])
    share = sum(row.finding.outcome == outcome for row in rows)
    unit, short = parts[0].unit, baseline_names()
    nulls = list(dict.fromkeys(short.get(part.null_name or "", part.null_name or "none") for part in parts))
    null = _span([part.null for part in parts if part.null is not None], unit)
    return Cell(
        outcome=outcome,
        word=OUTCOMES[outcome],
        score=_span([part.mean for part in parts], unit),
        interval=interval(parts[0].low, parts[0].high, unit) if len(parts) == 1 else "",
        gain=gained(parts[0])
        if len(parts) == 1
        else _span([part.gain for part in parts if part.gain is not None], unit, sign=True),
        count=", ".join(words for kind in kinds() if (words := kind.count(rows))) or None,
        null=f"{null} ({nulls[0] if len(nulls) == 1 else 'strongest'})",
        seeds=f"in {share} of {plural(len(rows), 'seed')}, n = {parts[0].n} each"
        if len(rows) > 1
        else f"n = {parts[0].n}",
    )


def worst(findings: Sequence[Finding]) -> Outcome:
    return min((finding.outcome for finding in findings), key=WORST_FIRST.index)


def _span(values: Sequence[float], unit: str, sign: bool = False) -> str:
    """The mean over one seed, or the least and the greatest over several."""
    if not values:
        return "—"
    ends = [number(end, unit, sign) for end in (min(values), max(values))]
    return ends[0] if ends[0] == ends[1] else f"{ends[0].removesuffix(' dB')} to {ends[1]}"
