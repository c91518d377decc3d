"""Renders a report and its pictures as one self-contained HTML page: no network, scripts or
fonts."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from shared.reporting import charts, forgetting, formatting
from shared.reporting.as_yaml import shorten_choices, to_yaml
from shared.reporting.curves import attacks_of, draw_curve, leak_of, settings_of
from shared.reporting.deletions import MAX_LINES, build_deletion_tables
from shared.reporting.drawing import ScoreAxis
from shared.reporting.evaluations import method_key
from shared.reporting.findings import NO_TRUTH_RULE, RULES
from shared.reporting.formatting import (
    Names,
    group_by_release,
    list_columns,
    matches_attack,
)
from shared.reporting.kinds import collect_baseline_names, get_metric_name, list_kinds
from shared.reporting.models import Defense, Method, Missing, Outcome, Report, Row, Sweep
from shared.reporting.moved_weights import draw_moved_weights
from shared.reporting.overview import OUTCOMES, ReleaseLine, build_overview
from shared.reporting.pictures import (
    Gallery,
    Picture,
    UnscoredGallery,
    get_row_key,
    select_galleries,
)
from shared.reporting.reported_kind import ReportedKind, View
from shared.reporting.row_charts import Chart, build_point
from shared.reporting.threat_models import describe_never_given, describe_threat_models
from shared.reporting.unscored import build_unscored, without_truth
from shared.roles import Role
from shared.uploaded_files import PREFIX

TEMPLATES = Path(__file__).parent / "templates"
STYLES = ("theme.css", "report.css")
LEVEL_NAMES = {
    "leaks": "Leaks",
    "reduced": "Reduced by a defense",
    "no_leak_seen": "No leak seen",
    "inconclusive": "Inconclusive",
}
ROLE_WORDS = {
    Role.ORIGINAL: "Original models",
    Role.UNLEARNED: "Released models",
    Role.RETRAINED: "Retrained models",
    Role.TRAINING_SET: "Training sets",
    Role.FORGET_SETS: "Deleted samples",
}
TEST_STATES = {"tested": "tested", "tested_in_part": "in part", "not_tested": "not tested"}
MAX_DIGESTS = (
    4  # of one role, in the part that is signed; the others are under "How to reproduce it"
)
MAX_LEAD_PICTURES = 8  # below the verdict; all are further down
MAX_POINTS = 40  # points on one chart beyond which only the first seed is drawn


@dataclass(frozen=True)
class Excerpt:
    """Which rows and sweeps of a report to show; what the page says of the whole report stays.

    rows: in the order in which to show them, each with its number in the report, from 1.
    whole: whether these are all of them.
    """

    rows: Sequence[tuple[int, Row]]
    sweeps: Sequence[Sweep]
    whole: bool


@dataclass(frozen=True)
class Parts:
    """The body of a report as parts of another page.

    opening: the verdict, its pictures, and what was not tested.
    contents: links to the sections.
    results: what was measured, of the rows of the excerpt.
    background: threat models, standards, defenses, how to reproduce it, caveats.
    """

    facts: Sequence[tuple[str, str]]
    opening: Markup
    contents: Markup
    results: Markup
    background: Markup


def render_page(
    report: Report, galleries: Sequence[Gallery], unscored: Sequence[UnscoredGallery] = ()
) -> str:
    """Render the page. Equal inputs give equal pages; everything from users is escaped."""
    context = _build_context(report, galleries, unscored, choose_all(report))
    style = "".join((TEMPLATES / name).read_text() for name in STYLES)
    context |= {"style": Markup(style), "is_archived": True}  # noqa: S704 - our own files
    return _load_environment().get_template("report.html").render(context)


def render_parts(
    report: Report,
    galleries: Sequence[Gallery],
    unscored: Sequence[UnscoredGallery],
    excerpt: Excerpt,
) -> Parts:
    """The parts of the page, to be shown in another one. They need report.css."""
    context = _build_context(report, galleries, unscored, excerpt) | {"is_archived": False}

    def render(template: str) -> Markup:
        html = _load_environment().get_template(template).render(context)
        return Markup(html)  # noqa: S704 - our own templates, which escape

    names = ("opening.html", "contents.html", "results.html", "background.html")
    return Parts(context["facts"], *map(render, names))


def choose_all(report: Report) -> Excerpt:
    """The whole report."""
    return Excerpt(list(enumerate(report.rows, start=1)), report.sweeps, whole=True)


@cache
def _load_environment() -> Environment:
    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(data=encode_data_url, name_of_metric=get_metric_name)
    environment.globals.update(chip=_draw_chip)
    return environment


def _draw_chip(outcome: Outcome) -> Markup:
    return Markup('<span class="chip {}">{}</span>').format(outcome, OUTCOMES[outcome])


def _build_context(
    report: Report,
    galleries: Sequence[Gallery],
    unscored: Sequence[UnscoredGallery],
    excerpt: Excerpt,
) -> dict[str, Any]:
    """What the templates show."""
    names = Names(report.rows)
    rows = [row for _, row in excerpt.rows]
    with_rows = report if excerpt.whole else report.model_copy(update={"rows": rows})
    lines = build_overview(report.rows, names, None if excerpt.whole else rows)
    view = View(
        with_rows, [(line.mark, row) for line in lines for row in line.rows], names, galleries
    )
    unlearned = forgetting.build_lines(rows, names)
    return {
        "report": report,
        "level": LEVEL_NAMES[report.verdict.level],
        "facts": list_facts(report),
        "lead": choose_lead(report, galleries),
        "identity": list_identity(report),
        "test_states": TEST_STATES,
        "names": names,
        "n": formatting,
        "short": collect_baseline_names(),
        "leak_of": leak_of,
        "lines": lines,
        "releases": lines if excerpt.whole else group_by_release(report.rows),
        "no_cell": "missing" if excerpt.whole else "not shown",
        "missing": group_missing(report.missing) if excerpt.whole else [],
        "attacks": [names(attack) for attack in list_columns(rows)],
        "table_rows": excerpt.rows,
        "tradeoffs": draw_tradeoffs(rows, lines, names),
        "curves": [
            (
                sweep,
                settings_of(sweep),
                [(attack, draw_curve(sweep, attack)) for attack in attacks_of(sweep)],
            )
            for sweep in excerpt.sweeps
        ],
        "without_truth": without_truth(report.rows),
        "max_lead": MAX_LEAD_PICTURES,
        "unscored": build_unscored(rows, unscored),
        "moved": [draw_moved_weights(one) for one in report.moved_weights],
        "sections": [kind.build_section(view) for kind in list_kinds()],
        "threats": describe_threat_models(report.rows, names),
        "never": describe_never_given(report.rows),
        "defenses": list_defenses(rows),
        "rules": (NO_TRUTH_RULE,) if without_truth(report.rows) else (*RULES, *forgetting.RULES),
        "forgetting": unlearned,
        "forgetting_tests": forgetting.list_tests(unlearned),
        "deletions": build_deletion_tables(lines, names),
        "max_deletions": MAX_LINES,
        "yaml": to_yaml(shorten_choices(report.provenance.audit)),
        "tested": report.provenance.self_test,
        "terms": [term for kind in list_kinds() for term in kind.terms],
        "with_baselines": {kind.metric for kind in list_kinds() if kind.lists_baselines},
    }


@dataclass(frozen=True)
class Lead:
    """The pictures below the verdict: of one row, the first ones of all."""

    row: Row
    pictures: Sequence[Picture]
    total: int


def choose_lead(report: Report, galleries: Sequence[Gallery]) -> Lead | None:
    """The pictures of the row that the verdict describes; if it has none, those of the first row
    that leaks, or of the first row."""
    selected = select_galleries(report.rows, galleries)
    if not selected:
        return None
    place = report.verdict.row
    is_there = place is not None and place <= len(report.rows)
    described = get_row_key(report.rows[place - 1])[1:] if place and is_there else None

    def rank(item: tuple[Row, Gallery]) -> tuple[bool, bool]:
        row, _ = item
        return get_row_key(row)[1:] != described, row.finding.outcome != "leak"

    row, gallery = min(selected, key=rank)
    return Lead(row, gallery.pictures[:MAX_LEAD_PICTURES], len(gallery.pictures))


def encode_data_url(png: bytes) -> str:
    """An image as a data URL."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def list_facts(report: Report) -> list[tuple[str, str]]:
    """The facts in the page's header."""
    audit, rows = report.provenance.audit, report.rows
    listed_facts = [
        ("Data set", _name_choice(audit["dataset"]) if audit["dataset"] else "none brought"),
        ("Architecture", _name_choice(audit["model"])),
    ]
    if audit.get("original"):
        listed_facts.append(("Models", f"brought by the user{_list_declared(audit)}"))
    if "size" in audit.get("train", {}):
        listed_facts.append(("Training set", f"N = {audit['train']['size']}"))
    if rows:
        sizes = sorted({(row.deletions, row.size) for row in rows})
        listed_facts.append(("Deletions", "; ".join(f"{d}, each of k = {k}" for d, k in sizes)))
    seeds = audit.get("seeds", [0])
    listed_facts.append(
        ("Seeds", ", ".join(str(seed) for seed in seeds[:8]) + (" …" if len(seeds) > 8 else ""))
    )
    listed_facts.append(("Rows", f"{len(rows)} measured, {len(report.missing)} missing"))
    return listed_facts


def _list_declared(audit: Mapping[str, Any]) -> str:
    """`: before@2, after@1 on mine@1`, of what was declared under a name."""
    names = dict(audit.get("declared", {}))
    dataset = names.pop("dataset", None)
    models = ", ".join(dict.fromkeys(names.values()))
    words = [f": {models}"] if models else []
    return "".join([*words, f" on {dataset}" if dataset else ""])


def list_identity(report: Report) -> list[tuple[str, str]]:
    """What a signature refers to: audit, date, models and data."""
    provenance = report.provenance
    submission, files = provenance.submission, provenance.data_files
    identity = [("Audit", report.name)]
    if submission is not None:
        identity[0] = ("Audit", submission.audit or f"report job {submission.job}")
        identity.append(
            ("Submitted", submission.submitted_at.replace("T", " ").replace("Z", " UTC"))
        )
    identity += [
        (words, shorten_digests(digests))
        for role, words in ROLE_WORDS.items()
        if (digests := provenance.inputs.get(role))
    ]
    if files:
        named = [
            f"{'upload' if path.startswith(PREFIX) else path} {digest[:12]}"
            for path, digest in sorted(files.items())
        ]
        identity.append(("Data files", _limit(named)))
    if provenance.self_test is not None:
        identity.append(("Self-test", provenance.self_test.digest[:12]))
    return identity


def shorten_digests(digests: Sequence[str]) -> str:
    """The first digits of the first digests, and how many there are."""
    return _limit([digest[:12] for digest in digests])


def _limit(texts: Sequence[str]) -> str:
    rest = f" and {len(texts) - MAX_DIGESTS} more" if len(texts) > MAX_DIGESTS else ""
    return ", ".join(texts[:MAX_DIGESTS]) + rest


def _name_choice(value: Any) -> str:
    return value if isinstance(value, str) else str(value["name"])


def group_missing(rows: Sequence[Missing]) -> list[tuple[Missing, str]]:
    """Group missing rows that differ only in their seed: one of them, and all seeds."""
    alike: dict[str, list[Missing]] = {}
    for one in rows:
        alike.setdefault(one.model_dump_json(exclude={"seed"}), []).append(one)
    return [(same[0], ", ".join(str(one.seed) for one in same)) for same in alike.values()]


def draw_tradeoffs(rows: Sequence[Row], lines: Sequence[ReleaseLine], names: Names) -> list[Chart]:
    """One chart per attack whose kind has one: its score against the releases' test accuracy."""
    drawn_charts = []
    for attack in list_columns(rows):
        for kind in list_kinds():
            if kind.tradeoff is not None and (
                chart := _draw_tradeoff(kind, kind.tradeoff, attack, lines, names)
            ):
                drawn_charts.append(chart)
    return drawn_charts


def _draw_tradeoff(
    kind: ReportedKind, score_name: str, attack: Method, lines: Sequence[ReleaseLine], names: Names
) -> Chart | None:
    metric = kind.metric
    of_all = [
        (line.mark, row)
        for line in lines
        for row in line.rows
        if matches_attack(row, attack)
        and metric in row.metrics
        and row.utility
        and row.utility.test_accuracy is not None
    ]
    of_first = [(mark, row) for mark, row in of_all if row.seed == of_all[0][1].seed]
    drawn = of_first if len(of_all) > MAX_POINTS else of_all
    if not drawn:
        return None
    baselines = [
        baseline for _, row in drawn if (baseline := row.metrics[metric].baseline) is not None
    ]
    originals = [
        accuracy
        for _, row in drawn
        if row.utility and (accuracy := row.utility.original_test_accuracy) is not None
    ]
    points = [build_point(mark, row, metric, names) for mark, row in drawn]
    score = drawn[0][1].metrics[metric]
    drawing = charts.draw_tradeoff(
        points, baselines, originals, ScoreAxis(score_name, score.unit, score.higher_is_better)
    )
    return Chart(names(attack), metric, drawing, drawn, len(drawn) < len(of_all))


def list_defenses(rows: Sequence[Row]) -> list[tuple[Method, Defense, int]]:
    """Every release with a defense: unlearning, defense, seed."""
    released = {
        (method_key(row.unlearning), method_key(row.defense), row.seed): (
            row.unlearning,
            row.defense,
            row.seed,
        )
        for row in rows
        if row.defense.method not in ("none", "not stated")
    }
    return list(released.values())
