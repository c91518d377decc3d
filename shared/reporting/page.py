"""Report + pictures -> one HTML page that needs nothing else: no network, no scripts, no fonts."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from shared.reporting import charts, numbers
from shared.reporting.as_yaml import shortened, to_yaml
from shared.reporting.curves import attacks_of, curve, leak_of, settings_of
from shared.reporting.drawing import ScoreAxis
from shared.reporting.evaluations import identity
from shared.reporting.findings import RULES
from shared.reporting.glance import OUTCOMES, Line, overview
from shared.reporting.kind import ReportedKind, View
from shared.reporting.kinds import baseline_names, kinds, metric_name
from shared.reporting.models import Defense, Method, Missing, Report, Row
from shared.reporting.numbers import Names, columns_of, shows
from shared.reporting.pictures import Gallery
from shared.reporting.row_charts import Chart, point_of
from shared.reporting.threats import never, threats

TEMPLATES = Path(__file__).parent / "templates"
LEVELS = {
    "leaks": "Leaks",
    "reduced": "Reduced by a defense",
    "no_leak_seen": "No leak seen",
    "inconclusive": "Inconclusive",
}
MANY = 40  # points on one chart beyond which only the first seed is drawn


def render(report: Report, galleries: Sequence[Gallery]) -> str:
    """The page. Equal reports and pictures give equal pages; everything of the user's is escaped."""
    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(data=data, name_of_metric=metric_name)
    names = Names(report.rows)
    lines = overview(report.rows, names)
    view = View(report, [(line.mark, row) for line in lines for row in line.rows], names, galleries)
    context: dict[str, Any] = {
        "report": report,
        "style": Markup((TEMPLATES / "report.css").read_text()),  # noqa: S704 - a file of ours
        "level": LEVELS[report.verdict.level],
        "outcomes": OUTCOMES,
        "facts": facts(report),
        "names": names,
        "n": numbers,
        "short": baseline_names(),
        "leak_of": leak_of,
        "lines": lines,
        "missing": missing(report.missing),
        "attacks": [names(attack) for attack in columns_of(report.rows)],
        "tradeoffs": tradeoffs(report.rows, lines, names),
        "curves": [
            (sweep, settings_of(sweep), [(attack, curve(sweep, attack)) for attack in attacks_of(sweep)])
            for sweep in report.sweeps
        ],
        "sections": [kind.section(view) for kind in kinds()],
        "threats": threats(report.rows, names),
        "never": never(report.rows),
        "defenses": defenses(report.rows),
        "rules": RULES,
        "yaml": to_yaml(shortened(report.provenance.audit)),
        "tested": report.provenance.self_test,
        "terms": [term for kind in kinds() for term in kind.terms],
        "with_baselines": {kind.metric for kind in kinds() if kind.lists_baselines},
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
    """One chart for each attack whose kind has one: its score against the releases' test accuracy."""
    charted = []
    for attack in columns_of(rows):
        for kind in kinds():
            if kind.tradeoff is not None and (chart := _tradeoff(kind, kind.tradeoff, attack, lines, names)):
                charted.append(chart)
    return charted


def _tradeoff(kind: ReportedKind, score_name: str, attack: Method, lines: Sequence[Line], names: Names) -> Chart | None:
    metric = kind.metric
    of_all = [
        (line.mark, row)
        for line in lines
        for row in line.rows
        if shows(row, attack) and metric in row.metrics and row.utility
    ]
    of_first = [(mark, row) for mark, row in of_all if row.seed == of_all[0][1].seed]
    drawn = of_first if len(of_all) > MANY else of_all
    if not drawn:
        return None
    nulls = [null for _, row in drawn if (null := row.metrics[metric].null) is not None]
    originals = [row.utility.original_test_accuracy for _, row in drawn if row.utility]
    points = [point_of(mark, row, metric, names) for mark, row in drawn]
    score = drawn[0][1].metrics[metric]
    drawing = charts.tradeoff(points, nulls, originals, ScoreAxis(score_name, score.unit, score.higher_is_better))
    return Chart(names(attack), metric, drawing, drawn, len(drawn) < len(of_all))


def defenses(rows: Sequence[Row]) -> list[tuple[Method, Defense, int]]:
    """Every release with a defense: unlearning, defense, seed."""
    released = {
        (identity(row.unlearning), identity(row.defense), row.seed): (row.unlearning, row.defense, row.seed)
        for row in rows
        if row.defense.method not in ("none", "not stated")
    }
    return list(released.values())
