"""Reports of several audits side by side: which of their rows and releases belong together, and
their scores on one scale."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Generic, TypeVar

from markupsafe import Markup

from shared.reporting.drawing import (
    Point,
    ScoreAxis,
    build_svg,
    draw_both_widths,
    draw_box,
    draw_line,
    draw_marker,
    draw_text,
    format_tick,
    shorten,
)
from shared.reporting.evaluations import is_adaptive, method_key
from shared.reporting.formatting import format_number
from shared.reporting.kinds import find_main_metric, get_metric_name
from shared.reporting.models import Outcome, Report, Row
from shared.reporting.overview import OUTCOMES, find_worst_outcome

MAX_NAME_LENGTH = 50  # characters beside or above its marks
LANE, GAP = 25.0, 20.0  # pixels of one audit's mark, and between two rows

T = TypeVar("T")


@dataclass(frozen=True)
class Matched(Generic[T]):
    """Things of several audits that belong together, by the place of the audit, from 0.

    agreement: by which of the keys they were matched, from 0, the most exact one.
    """

    items: Mapping[int, T]
    agreement: int = 0

    @property
    def same_params(self) -> bool:
        """Whether they agree in all their parameters."""
        return self.agreement == 0

    @property
    def first(self) -> T:
        """That of the first audit that has one."""
        return self.items[min(self.items)]


def match(
    audits: Sequence[Sequence[T]],
    get_key: Callable[[T], Hashable],
    *get_names: Callable[[T], Hashable],
) -> list[Matched[T]]:
    """Match things with equal keys; then of those left, what alone has its name in its audits, by
    one kind of name after the other.

    Args:
        audits: the things of each audit; keys are unique within one.
        get_key: methods with all their parameters.
        get_names: the same, ever less exactly.
    """
    by_key: dict[Hashable, dict[int, T]] = {}
    for place, things in enumerate(audits):
        for thing in things:
            by_key.setdefault(get_key(thing), {})[place] = thing
    matched = [Matched(items) for items in by_key.values()]
    for agreement, get_name in enumerate(get_names, start=1):
        matched = _join_named(matched, get_name, agreement)
    return matched


def _join_named(
    matched: Sequence[Matched[T]], get_name: Callable[[T], Hashable], agreement: int
) -> list[Matched[T]]:
    """Those of one name become one, if they are of different audits."""
    by_name: dict[Hashable, list[Matched[T]]] = defaultdict(list)
    for one in matched:
        by_name[get_name(one.first)].append(one)
    joined = []
    for one in matched:
        alike = by_name[get_name(one.first)]
        places = [place for other in alike for place in other.items]
        if len(alike) == 1 or len(places) > len(set(places)):
            joined.append(one)
        elif one is alike[0]:
            together = {place: thing for other in alike for place, thing in other.items.items()}
            joined.append(Matched(dict(sorted(together.items())), agreement))
    return joined


Group = Sequence[Row]  # rows of one attack on one release, one per seed


def group_rows(report: Report) -> list[list[Row]]:
    """The rows that differ only in their seed, in the order of the report."""
    groups: dict[Hashable, list[Row]] = {}
    for row in report.rows:
        groups.setdefault(_get_key(row), []).append(row)
    return list(groups.values())


def match_rows(reports: Sequence[Sequence[Group]]) -> list[Matched[Group]]:
    """The attacks of all reports that belong together: of each report its `group_rows`."""
    return match(
        reports,
        lambda group: _get_key(group[0]),
        lambda group: (
            group[0].unlearning.method,
            group[0].defense.method,
            group[0].attack.method,
            is_adaptive(group[0].attack),
        ),
        lambda group: (method_key(group[0].unlearning), method_key(group[0].attack)),
    )


OTHER_DEFENSE = 2  # the agreement of what differs in its defense only


def _get_key(row: Row) -> Hashable:
    return method_key(row.unlearning), method_key(row.defense), method_key(row.attack)


@dataclass(frozen=True)
class SideScore:
    """One attack's main metric in one audit, all seeds together."""

    metric: str
    unit: str
    higher_is_better: bool
    outcome: Outcome
    mean: float
    low: float | None  # of one seed; of several, the lowest mean
    high: float | None
    baseline: float | None


def score_group(group: Group) -> SideScore | None:
    """None if nothing was scored."""
    scored = [(row, name) for row in group if (name := find_main_metric(row.metrics))]
    if not scored:
        return None
    metric = scored[0][1]
    scores = [row.metrics[metric] for row, name in scored if name == metric]
    means = [score.mean for score in scores]
    baselines = [score.baseline for score in scores if score.baseline is not None]
    one = len(scores) == 1
    return SideScore(
        metric,
        scores[0].unit,
        scores[0].higher_is_better,
        find_worst_outcome([row.finding for row in group]),
        fmean(means),
        scores[0].low if one else min(means),
        scores[0].high if one else max(means),
        fmean(baselines) if baselines else None,
    )


@dataclass(frozen=True)
class ScoreLine:
    """The scores of one matched row: by letter of the audit."""

    name: str
    scores: Mapping[str, SideScore]


def draw_scores(lines: Sequence[ScoreLine]) -> Markup:
    """All scores on one axis: below each name a mark for each audit, with its interval and its
    baseline.

    Args:
        lines: not empty, all of one metric and unit.
    """
    scores = [score for line in lines for score in line.scores.values()]
    axis = ScoreAxis(get_metric_name(scores[0].metric), scores[0].unit, scores[0].higher_is_better)
    ends = [
        end
        for score in scores
        for end in (score.mean, score.low, score.high, score.baseline)
        if end is not None
    ]

    def draw(width: float) -> Markup:
        beside = width > 500
        left = 385.0 if beside else 14.0
        scale = replace(axis.scale(ends), pixels=(left + 8, width - 16))
        top, parts = 28.0, [draw_text(left, 12, axis.label, "label")]
        rows: list[Markup] = []
        for line in lines:
            above = 0.0 if beside else 18.0
            height = above + LANE * len(line.scores)
            middle = top + above + LANE * len(line.scores) / 2
            name = shorten(line.name, MAX_NAME_LENGTH)
            rows.append(
                draw_text(left - 14, middle + 4, name, "name", "end")
                if beside
                else draw_text(left, top + 10, name, "name")
            )
            for number, (letter, score) in enumerate(line.scores.items()):
                rows += _draw_lane(
                    letter, score, scale, top + above + LANE * (number + 0.5), line.name
                )
            top += height + GAP
        bottom = top - GAP + 6
        for value in scale.compute_ticks(max(3, int((width - left) / 100))):
            parts.append(draw_line(scale(value), 20, scale(value), bottom, "grid"))
            parts.append(draw_text(scale(value), bottom + 16, format_tick(value), "tick", "middle"))
        description = "; ".join(
            f"{line.name}: "
            + ", ".join(f"{k} {format_number(s.mean, s.unit)}" for k, s in line.scores.items())
            for line in lines
        )
        return build_svg(width, bottom + 24, f"{axis.label}. {description}", [*parts, *rows])

    return draw_both_widths(draw)


def _draw_lane(
    letter: str, score: SideScore, scale: Callable[[float], float], y: float, name: str
) -> list[Markup]:
    parts = []
    if score.baseline is not None:
        at = scale(score.baseline)
        parts.append(draw_box(at - 2, y - 10, 4, 20, "band"))
    if score.low is not None and score.high is not None:
        style = f"interval {score.outcome}"
        parts.append(draw_line(scale(score.low), y, scale(score.high), y, style))
    title = f"{letter}: {name}: {format_number(score.mean, score.unit)}, {OUTCOMES[score.outcome].lower()}"
    point = Point(letter, score.mean, score.mean, score.low, score.high, score.outcome, title)
    return [*parts, draw_marker(scale(score.mean), y, point)]
