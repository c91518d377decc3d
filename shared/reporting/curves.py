"""The chart of a sweep: leakage above utility, over the strength of a defense."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from markupsafe import Markup

from shared.reporting.drawing import (
    Scale,
    ScoreAxis,
    build_svg,
    draw_both_widths,
    draw_line,
    draw_text,
    format_tick,
)
from shared.reporting.evaluations import method_key
from shared.reporting.formatting import format_number
from shared.reporting.kinds import get_metric_name
from shared.reporting.models import Leak, Method, Setting, Sweep

LEFT, TOP, LEAKAGE, BETWEEN, UTILITY, BOTTOM = 46.0, 24.0, 190.0, 34.0, 110.0, 40.0


def attacks_of(sweep: Sweep) -> list[Method]:
    """The attacks with a score for any setting, in the order of the settings."""
    return list(
        {method_key(leak.attack): leak.attack for s in sweep.settings for leak in s.leaks}.values()
    )


def settings_of(sweep: Sweep) -> list[Setting]:
    """All settings, the undefended first."""
    return [*([sweep.undefended] if sweep.undefended else []), *sweep.settings]


def leak_of(setting: Setting, attack: Method) -> Leak | None:
    """An attack's leak at a setting; None if missing."""
    return next(
        (leak for leak in setting.leaks if method_key(leak.attack) == method_key(attack)), None
    )


def draw_curve(sweep: Sweep, attack: Method) -> Markup:
    """Two panels on one axis: one attack's score with its baseline, and test and forget
    accuracy."""
    settings = settings_of(sweep)
    leaks = [leak_of(setting, attack) for setting in settings]

    def draw(width: float) -> Markup:
        height = TOP + LEAKAGE + BETWEEN + UTILITY + BOTTOM
        step = (width - LEFT - 20) / len(settings)
        at = [LEFT + step * (place + 0.5) for place in range(len(settings))]
        known = [leak for leak in leaks if leak]
        ends = [
            end
            for leak in known
            for end in (leak.low, leak.mean, leak.high, leak.baseline)
            if end is not None
        ]
        axis = ScoreAxis(get_metric_name(known[0].metric), known[0].unit, known[0].higher_is_better)
        y = replace(axis.scale(ends), pixels=(TOP + LEAKAGE, TOP))
        utility_scale = Scale(0, 1, (TOP + LEAKAGE + BETWEEN + UTILITY, TOP + LEAKAGE + BETWEEN))
        parts = [*_draw_panel(y, width, axis.label, 5)]
        parts += _draw_panel(
            utility_scale, width, "accuracy of the released models: test (line), forget (dots)", 3
        )
        parts += _draw_strength_axis(sweep, settings, at, height, width)
        parts += _draw_polyline(
            [leak.baseline if leak else None for leak in leaks], at, y, "baseline"
        )
        parts += _draw_marks(leaks, at, y)
        parts += _draw_polyline(
            [setting.test_accuracy for setting in settings], at, utility_scale, "use"
        )
        parts += _draw_polyline(
            [setting.forget_accuracy for setting in settings], at, utility_scale, "forget"
        )
        return build_svg(width, height, _describe_curve(sweep, settings, leaks), parts)

    return draw_both_widths(draw)


def _draw_panel(y: Scale, width: float, title: str, ticks: int) -> list[Markup]:
    parts = [draw_text(2, y.pixels[1] - 10, title, "label")]
    for value in y.compute_ticks(ticks):
        parts.append(draw_line(LEFT, y(value), width, y(value), "grid"))
        parts.append(draw_text(LEFT - 6, y(value) + 4, format_tick(value), "tick", "end"))
    return [*parts, draw_line(LEFT, y.pixels[0], width, y.pixels[0], "axis")]


def _draw_strength_axis(
    sweep: Sweep, settings: Sequence[Setting], at: Sequence[float], height: float, width: float
) -> list[Markup]:
    """The axis below both panels, and a line through both at the operating point."""
    parts = []
    for setting, x in zip(settings, at, strict=True):
        name = "none" if setting.value is None else format_tick(setting.value)
        parts.append(draw_text(x, height - BOTTOM + 18, name, "tick", "middle"))
        if setting.value is not None and setting.value == sweep.operating_point:
            parts.append(draw_line(x, TOP, x, height - BOTTOM, "chosen"))
    return [*parts, draw_text(width - 2, height - 4, sweep.strength, "label", "end")]


def _draw_polyline(
    values: Sequence[float | None], at: Sequence[float], y: Scale, style: str
) -> list[Markup]:
    """Lines between consecutive known values."""
    known = [(x, y(value)) for x, value in zip(at, values, strict=True) if value is not None]
    return [draw_line(*one, *other, style) for one, other in pairwise(known)]


def _draw_marks(leaks: Sequence[Leak | None], at: Sequence[float], y: Scale) -> list[Markup]:
    parts = []
    for leak, x in zip(leaks, at, strict=True):
        if leak is None:
            continue
        if leak.low is not None and leak.high is not None:
            parts.append(draw_line(x, y(leak.low), x, y(leak.high), f"interval {leak.outcome}"))
        shape = Markup('<g class="mark {}"><circle cx="{:.1f}" cy="{:.1f}" r="6"/></g>')
        parts.append(shape.format(leak.outcome, x, y(leak.mean)))
    return [
        *_draw_polyline([leak.mean if leak else None for leak in leaks], at, y, "trend"),
        *parts,
    ]


def _describe_curve(sweep: Sweep, settings: Sequence[Setting], leaks: Sequence[Leak | None]) -> str:
    """The text alternative of the chart."""
    descriptions = [
        f"{'none' if setting.value is None else f'{setting.value:g}'}: "
        f"{format_number(leak.mean, leak.unit) if leak else 'not known'}, test "
        f"{format_number(setting.test_accuracy)}"
        for setting, leak in zip(settings, leaks, strict=True)
    ]
    return (
        f"Leakage and accuracy over {sweep.strength} of {sweep.defense}. {'; '.join(descriptions)}"
    )
