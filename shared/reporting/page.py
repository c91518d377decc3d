"""Report + pictures -> one HTML page that needs nothing else: no network, no scripts, no fonts."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from shared.reporting import charts, numbers
from shared.reporting.as_yaml import shortened, to_yaml
from shared.reporting.binomial import auc_band, chance_band
from shared.reporting.curves import curve
from shared.reporting.drawing import Point
from shared.reporting.evaluations import IMAGE, LABEL, MEMBER, RANK, STAYED, identity
from shared.reporting.findings import RULES
from shared.reporting.glance import OUTCOMES, Line, overview
from shared.reporting.models import Defense, Method, Missing, Report, Row
from shared.reporting.numbers import Names, attacks_of, columns_of, shows
from shared.reporting.pictures import Gallery, shown
from shared.reporting.threats import never, threats

TEMPLATES = Path(__file__).parent / "templates"
LEVELS = {
    "leaks": "Leaks",
    "reduced": "Reduced by a defense",
    "no_leak_seen": "No leak seen",
    "inconclusive": "Inconclusive",
}
MANY = 40  # points on one chart beyond which only the first seed is drawn


@dataclass(frozen=True)
class Chart:
    """A chart with the words beside it."""

    attack: str
    drawing: Markup
    rows: list[tuple[str, Row]]
    first_seed_only: bool


def render(report: Report, galleries: Sequence[Gallery]) -> str:
    """The page. Equal reports and pictures give equal pages; everything of the user's is escaped."""
    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(data=data, name_of_metric=numbers.metric_name, name_of_null=numbers.null_name)
    names = Names(report.rows)
    lines = overview(report.rows, names)
    context: dict[str, Any] = {
        "report": report,
        "style": Markup((TEMPLATES / "report.css").read_text()),  # noqa: S704 - a file of ours
        "level": LEVELS[report.verdict.level],
        "outcomes": OUTCOMES,
        "facts": facts(report),
        "names": names,
        "n": numbers,
        "short": numbers.SHORT,
        "lines": lines,
        "missing": missing(report.missing),
        "attacks": [names(attack) for attack in columns_of(report.rows)],
        "tradeoffs": tradeoffs(report.rows, lines, names),
        "labels": labels(lines, names),
        "members": members(lines, names),
        "curves": [
            (sweep, [(names(leak.attack), curve(sweep, i)) for i, leak in enumerate(sweep.settings[0].leaks)])
            for sweep in report.sweeps
        ],
        "galleries": shown(report.rows, galleries),
        "threats": threats(report.rows, names),
        "never": never(report.rows),
        "defenses": defenses(report.rows),
        "rules": RULES,
        "yaml": to_yaml(shortened(report.provenance.audit)),
        "tested": report.provenance.self_test,
        "image": IMAGE,
        "member": MEMBER,
        "stayed": STAYED,
        "rank": RANK,
    }
    return environment.get_template("report.html").render(context)


def data(png: bytes) -> str:
    """An image as an address that needs no network."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def facts(report: Report) -> list[tuple[str, str]]:
    """What was audited, in a line."""
    audit, rows = report.provenance.audit, report.rows
    told = [("Data set", _choice(audit["dataset"])), ("Architecture", _choice(audit["model"]))]
    if "size" in audit.get("train", {}):
        told.append(("Training set", f"N = {audit['train']['size']}"))
    if rows:
        sizes = sorted({(row.deletions, row.size) for row in rows})
        told.append(("Deletions", "; ".join(f"{d} of k = {k}" for d, k in sizes)))
    seeds = audit.get("seeds", [0])
    told.append(("Seeds", ", ".join(str(seed) for seed in seeds[:8]) + (" …" if len(seeds) > 8 else "")))
    told.append(("Rows", f"{len(rows)} measured, {len(report.missing)} missing"))
    return told


def _choice(value: Any) -> str:
    return value if isinstance(value, str) else str(value["name"])


def missing(ones: Sequence[Missing]) -> list[tuple[Missing, str]]:
    """Missing rows that differ in their seed alone, together: one of them, and all seeds."""
    alike: dict[str, list[Missing]] = {}
    for one in ones:
        alike.setdefault(one.model_dump_json(exclude={"seed"}), []).append(one)
    return [(same[0], ", ".join(str(one.seed) for one in same)) for same in alike.values()]


def tradeoffs(rows: Sequence[Row], lines: Sequence[Line], names: Names) -> list[Chart]:
    """One chart an image attack: its score against the releases' test accuracy."""
    charted = []
    for attack in columns_of(rows):
        of_all = [
            (line.mark, row)
            for line in lines
            for row in line.rows
            if shows(row, attack) and IMAGE in row.metrics and row.utility
        ]
        of_first = [(mark, row) for mark, row in of_all if row.seed == of_all[0][1].seed]
        drawn = of_first if len(of_all) > MANY else of_all
        if not drawn:
            continue
        nulls = [null for _, row in drawn if (null := row.metrics[IMAGE].null) is not None]
        originals = [row.utility.original_test_accuracy for _, row in drawn if row.utility]
        points = [_point(mark, row, IMAGE, names) for mark, row in drawn]
        drawing = charts.tradeoff(points, nulls, originals, row_unit(drawn[0][1]))
        charted.append(Chart(names(attack), drawing, drawn, len(drawn) < len(of_all)))
    return charted


def row_unit(row: Row) -> str:
    return f"PSNR in {row.metrics[IMAGE].unit}"


def labels(lines: Sequence[Line], names: Names) -> Chart | None:
    """All label rows on one chart."""
    rows = [(line.mark, row) for line in lines for row in line.rows if LABEL in row.metrics]
    strips = []
    for mark, row in rows:
        score, null = row.metrics[LABEL], row.metrics[LABEL].null or 0.0
        point = _point(mark, row, LABEL, names, across=True)
        strips.append(
            charts.Strip(mark, _of(row, rows, names), numbers.scored(score), chance_band(score.n, null), null, point)
        )
    drawing = charts.strips(strips, "share of classes named rightly", "Label inference against chance.")
    return Chart("", drawing, rows, False) if strips else None


def members(lines: Sequence[Line], names: Names) -> list[Chart]:
    """One chart a membership attack: those who were forgotten."""
    found = []
    every = [(line.mark, row) for line in lines for row in line.rows if MEMBER in row.metrics]
    for attack in attacks_of(row for _, row in every):
        rows = [(mark, row) for mark, row in every if identity(row.attack) == identity(attack)]
        strips = []
        for mark, row in rows:
            score = row.metrics[MEMBER]
            point, band = _point(mark, row, MEMBER, names, across=True), auc_band(score.n, score.others or score.n)
            told = numbers.scored(score)
            strips.append(charts.Strip(mark, _of(row, rows, names), told, band, score.null or 0.5, point))
        axis = "AUC of the forgotten, against samples never trained on"
        found.append(Chart(names(attack), charts.strips(strips, axis, "Membership against chance."), rows, False))
    return found


def _of(row: Row, among: Sequence[tuple[str, Row]], names: Names) -> str:
    """The row in words, with its attack and its seed where others have another."""
    told = [names.choice(row.unlearning), names.choice(row.defense)]
    told += [names(row.attack)] if len({identity(other.attack) for _, other in among}) > 1 else []
    told += [f"seed {row.seed}"] if len({other.seed for _, other in among}) > 1 else []
    return ", ".join(told)


def _point(mark: str, row: Row, metric: str, names: Names, across: bool = False) -> Point:
    score, utility = row.metrics[metric], row.utility
    title = (
        f"{mark}: {names(row.unlearning)}, {names(row.defense)}, seed {row.seed}: {numbers.scored(score)}, "
        f"{OUTCOMES[row.finding.outcome].lower()}"
    )
    x = score.mean if across or utility is None else utility.test_accuracy
    return Point(mark, x, score.mean, score.low, score.high, row.finding.outcome, title)


def defenses(rows: Sequence[Row]) -> list[tuple[Method, Defense, int]]:
    """Every release with a defense: unlearning, defense, seed."""
    released = {
        (identity(row.unlearning), identity(row.defense), row.seed): (row.unlearning, row.defense, row.seed)
        for row in rows
        if row.defense.method not in ("none", "not stated")
    }
    return list(released.values())
