"""The charts of a report: leakage against utility, and shares (labels, members) with their chance
band."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from shared.reporting.drawing import (
    RADIUS,
    Point,
    Scale,
    ScoreAxis,
    build_svg,
    draw_both_widths,
    draw_box,
    draw_line,
    draw_marker,
    draw_text,
    fit_scale,
    format_tick,
    shorten,
)

MAX_NAME_LENGTH = 42  # characters beside or above a strip


@dataclass(frozen=True)
class Strip:
    """One score between 0 and 1, with the central 95 % of results expected by chance around the
    baseline."""

    mark: str
    name: str
    score_text: str
    band: tuple[float, float]
    baseline: float
    point: Point


def draw_tradeoff(
    points: Sequence[Point], baselines: Sequence[float], originals: Sequence[float], axis: ScoreAxis
) -> Markup:
    """Score against test accuracy, with intervals, the baseline and the original's accuracy."""

    def draw(width: float) -> Markup:
        height, left, bottom = min(380.0, 0.9 * width), 44.0, 44.0
        ends = [end for p in points for end in (p.low, p.y, p.high) if end is not None]
        x = fit_scale([*(p.x for p in points), *originals], 0.04, (0, 1))
        x = replace(x, pixels=(left + RADIUS + 4, width - RADIUS - 10))
        y = replace(axis.scale([*ends, *baselines]), pixels=(height - bottom, 26))
        parts = [
            *_draw_axes(x, y, width, height, left, bottom, axis),
            *_draw_references(x, y, baselines, originals, left, width),
        ]
        parts += _draw_points(points, x, y, (left + RADIUS + 2, width - RADIUS - 2))
        titles = "; ".join(p.title for p in points)
        return build_svg(
            width,
            height,
            f"Score of the attack against test accuracy of the released models. {titles}",
            parts,
        )

    return draw_both_widths(draw)


def _draw_axes(
    x: Scale, y: Scale, width: float, height: float, left: float, bottom: float, axis: ScoreAxis
) -> list[Markup]:
    parts = [draw_line(left, height - bottom, width, height - bottom, "axis")]
    for value in y.compute_ticks(6):
        parts.append(draw_line(left, y(value), width, y(value), "grid"))
        parts.append(draw_text(left - 6, y(value) + 4, format_tick(value), "tick", "end"))
    for value in x.compute_ticks(max(3, int(width / 110))):
        parts.append(draw_line(x(value), height - bottom, x(value), height - bottom + 5, "axis"))
        parts.append(
            draw_text(x(value), height - bottom + 18, format_tick(value), "tick", "middle")
        )
    parts.append(draw_text(2, 12, axis.label, "label"))
    parts.append(
        draw_text(width - 2, height - 6, "test accuracy of the released models", "label", "end")
    )
    return parts


def _draw_references(
    x: Scale,
    y: Scale,
    baselines: Sequence[float],
    originals: Sequence[float],
    left: float,
    width: float,
) -> list[Markup]:
    """The baseline, a band where rows differ in theirs, and the accuracy before unlearning."""
    parts = []
    if baselines:
        top, low = y(max(baselines)), y(min(baselines))
        parts.append(draw_box(left, top, width - left, max(low - top, 0.1), "band"))
        parts.append(draw_line(left, top, width, top, "baseline"))
        parts.append(draw_text(left + 6, low + 14, "baseline", "baseline-name"))
    for value in sorted(set(originals)):
        parts.append(draw_line(x(value), 26, x(value), y.pixels[0], "original"))
    if originals:
        at = x(max(originals))
        right = at > width / 2
        parts.append(
            draw_text(
                at + (-5 if right else 5),
                24,
                "original",
                "baseline-name",
                "end" if right else "start",
            )
        )
    return parts


def _draw_points(
    points: Sequence[Point], x: Scale, y: Scale, ends: tuple[float, float]
) -> list[Markup]:
    """Marks with intervals, moved sideways if they overlap; a thin line leads to the true
    position."""
    occupied: list[tuple[float, float, float]] = []
    parts, marks = [], []
    for point in sorted(points, key=lambda p: (p.x, p.y)):
        true = x(point.x)
        top, low = y(point.y) - RADIUS, y(point.y) + RADIUS
        top = min(top, y(point.high) if point.high is not None else top)
        low = max(low, y(point.low) if point.low is not None else low)
        at = _find_free_x(true, top, low, occupied, ends)
        occupied.append((at, top, low))
        if at != true:
            parts.append(draw_line(at, y(point.y), true, y(point.y), "lead"))
            parts.append(draw_line(true, y(point.y) - 3, true, y(point.y) + 3, "lead"))
        if point.low is not None and point.high is not None:
            parts.append(
                draw_line(at, y(point.low), at, y(point.high), f"interval {point.outcome}")
            )
            for end in (point.low, point.high):
                parts.append(draw_line(at - 4, y(end), at + 4, y(end), f"interval {point.outcome}"))
        marks.append(draw_marker(at, y(point.y), point))
    return parts + marks


def _find_free_x(
    true: float,
    top: float,
    low: float,
    occupied: Sequence[tuple[float, float, float]],
    ends: tuple[float, float],
) -> float:
    """The free position nearest to `true`, else `true`."""
    step = 2 * RADIUS + 4
    for offset in (k * sign for k in range(40) for sign in (-step, step)):
        at = true + offset
        if ends[0] <= at <= ends[1] and not any(
            abs(at - a) < step and t < low and top < b for a, t, b in occupied
        ):
            return at
    return true


def draw_strips(rows: Sequence[Strip], axis: str, title: str) -> Markup:
    """Each row on one axis from 0 to 1, with its interval and its chance band."""

    def draw(width: float) -> Markup:
        pitch = 58.0 if width < 500 else 38.0
        left = 12.0 if width < 500 else 310.0
        scale = Scale(0, 1, (left, width - 14))
        bottom = 22 + pitch * len(rows)
        parts = [draw_text(scale(0), 12, axis, "label")]
        for value in scale.compute_ticks(5):
            parts.append(draw_line(scale(value), 20, scale(value), bottom, "grid"))
            parts.append(draw_text(scale(value), bottom + 15, format_tick(value), "tick", "middle"))
        for i, strip in enumerate(rows):
            parts += _draw_strip(strip, scale, 22 + pitch * i, pitch, left)
        descriptions = "; ".join(f"{row.name}: {row.score_text}" for row in rows)
        return build_svg(width, bottom + 22, f"{title} {descriptions}", parts)

    return draw_both_widths(draw)


def _draw_strip(strip: Strip, scale: Scale, top: float, pitch: float, left: float) -> list[Markup]:
    middle = top + pitch - 17
    low, high = strip.band
    parts = [
        draw_box(scale(low), middle - 11, max(scale(high) - scale(low), 2), 22, "band"),
        draw_line(
            scale(strip.baseline), middle - 11, scale(strip.baseline), middle + 11, "baseline"
        ),
    ]
    if left > 100:
        parts.append(
            draw_text(left - 14, middle + 4, shorten(strip.name, MAX_NAME_LENGTH), "name", "end")
        )
    else:
        parts.append(draw_text(left, middle - 17, shorten(strip.name, MAX_NAME_LENGTH), "name"))
    point = strip.point
    if point.low is not None and point.high is not None:
        parts.append(
            draw_line(
                scale(point.low), middle, scale(point.high), middle, f"interval {point.outcome}"
            )
        )
    return [*parts, draw_marker(scale(point.x), middle, point)]
