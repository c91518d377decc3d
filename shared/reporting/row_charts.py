"""Rows on charts: their points, their names, and shares with their chance band."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from shared.reporting import charts, formatting
from shared.reporting.drawing import Point
from shared.reporting.evaluations import method_key
from shared.reporting.formatting import Names
from shared.reporting.models import Row, Score
from shared.reporting.overview import OUTCOMES

NumberedRows = Sequence[tuple[str, Row]]


@dataclass(frozen=True)
class Chart:
    """A chart with its texts."""

    attack: str
    metric: str
    drawing: Markup
    rows: NumberedRows
    first_seed_only: bool = False


@dataclass(frozen=True)
class ShareChart:
    """Shares on one axis from 0 to 1: `band` is expected by chance, `baseline` for scores without
    their own."""

    metric: str
    axis: str
    title: str
    baseline: float
    band: Callable[[Score], tuple[float, float]]


def draw_shares(rows: NumberedRows, chart: ShareChart, names: Names) -> Markup:
    """Draw each row's share with its interval and the band."""
    strips = []
    for mark, row in rows:
        score = row.metrics[chart.metric]
        point = build_point(mark, row, chart.metric, names, across=True)
        baseline = chart.baseline if score.baseline is None else score.baseline
        name, words = _name_row(row, rows, names), formatting.format_score(score)
        strips.append(charts.Strip(mark, name, words, chart.band(score), baseline, point))
    return charts.draw_strips(strips, chart.axis, chart.title)


def build_point(mark: str, row: Row, metric: str, names: Names, across: bool = False) -> Point:
    """A row's score against the released models' test accuracy, or along the axis if `across`."""
    score, utility = row.metrics[metric], row.utility
    title = (
        f"{mark}: {names(row.unlearning)}, {names(row.defense)}, seed {row.seed}: "
        f"{formatting.format_score(score)}, {OUTCOMES[row.finding.outcome].lower()}"
    )
    accuracy = utility.test_accuracy if utility else None
    x = score.mean if across or accuracy is None else accuracy
    return Point(mark, x, score.mean, score.low, score.high, row.finding.outcome, title)


def _name_row(row: Row, among: NumberedRows, names: Names) -> str:
    """The row's name, with attack and seed only if these differ among rows."""
    words = [names.name_choice(row.unlearning), names.name_choice(row.defense)]
    words += (
        [names(row.attack)] if len({method_key(other.attack) for _, other in among}) > 1 else []
    )
    words += [f"seed {row.seed}"] if len({other.seed for _, other in among}) > 1 else []
    return ", ".join(words)
