"""The charts of a report: leakage against utility, and shares (labels, members) against their chance band."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from shared.reporting.drawing import (
    RADIUS,
    Point,
    Scale,
    ScoreAxis,
    around,
    both,
    box,
    line,
    marker,
    plain,
    shorten,
    svg,
    text,
)

FITS = 42  # letters beside or above a strip


@dataclass(frozen=True)
class Strip:
    """One score between 0 and 1, beside what chance gives: the central 95 % of it, around the null."""

    mark: str
    name: str
    told: str
    band: tuple[float, float]
    null: float
    point: Point


def tradeoff(points: Sequence[Point], nulls: Sequence[float], originals: Sequence[float], axis: ScoreAxis) -> Markup:
    """Score against test accuracy, with intervals, the null and the original's accuracy."""

    def draw(width: float) -> Markup:
        height, left, bottom = min(380.0, 0.9 * width), 44.0, 44.0
        ends = [end for p in points for end in (p.low, p.y, p.high) if end is not None]
        x = around([*(p.x for p in points), *originals], 0.04, (0, 1))
        x = replace(x, pixels=(left + RADIUS + 4, width - RADIUS - 10))
        y = replace(axis.scale([*ends, *nulls]), pixels=(height - bottom, 26))
        parts = [*_axes(x, y, width, height, left, bottom, axis), *_references(x, y, nulls, originals, left, width)]
        parts += _spread(points, x, y, (left + RADIUS + 2, width - RADIUS - 2))
        told = "; ".join(p.title for p in points)
        return svg(width, height, f"Score of the attack against test accuracy of the released models. {told}", parts)

    return both(draw)


def _axes(x: Scale, y: Scale, width: float, height: float, left: float, bottom: float, axis: ScoreAxis) -> list[Markup]:
    parts = [line(left, height - bottom, width, height - bottom, "axis")]
    for value in y.ticks(6):
        parts.append(line(left, y(value), width, y(value), "grid"))
        parts.append(text(left - 6, y(value) + 4, plain(value), "tick", "end"))
    for value in x.ticks(max(3, int(width / 110))):
        parts.append(line(x(value), height - bottom, x(value), height - bottom + 5, "axis"))
        parts.append(text(x(value), height - bottom + 18, plain(value), "tick", "middle"))
    parts.append(text(2, 12, axis.label, "label"))
    parts.append(text(width - 2, height - 6, "test accuracy of the released models", "label", "end"))
    return parts


def _references(
    x: Scale, y: Scale, nulls: Sequence[float], originals: Sequence[float], left: float, width: float
) -> list[Markup]:
    """The null, a band where rows differ in theirs, and the accuracy before unlearning."""
    parts = []
    if nulls:
        top, low = y(max(nulls)), y(min(nulls))
        parts.append(box(left, top, width - left, max(low - top, 0.1), "band"))
        parts.append(line(left, top, width, top, "null"))
        parts.append(text(left + 6, low + 14, "null", "nullname"))
    for value in sorted(set(originals)):
        parts.append(line(x(value), 26, x(value), y.pixels[0], "original"))
    if originals:
        at = x(max(originals))
        right = at > width / 2
        parts.append(text(at + (-5 if right else 5), 24, "original", "nullname", "end" if right else "start"))
    return parts


def _spread(points: Sequence[Point], x: Scale, y: Scale, ends: tuple[float, float]) -> list[Markup]:
    """Marks with intervals, moved sideways where they would cover each other; a thin line leads to the true place."""
    taken: list[tuple[float, float, float]] = []
    parts, marks = [], []
    for point in sorted(points, key=lambda p: (p.x, p.y)):
        true = x(point.x)
        top, low = y(point.y) - RADIUS, y(point.y) + RADIUS
        top = min(top, y(point.high) if point.high is not None else top)
        low = max(low, y(point.low) if point.low is not None else low)
        at = _free(true, top, low, taken, ends)
        taken.append((at, top, low))
        if at != true:
            parts.append(line(at, y(point.y), true, y(point.y), "lead"))
            parts.append(line(true, y(point.y) - 3, true, y(point.y) + 3, "lead"))
        if point.low is not None and point.high is not None:
            parts.append(line(at, y(point.low), at, y(point.high), f"interval {point.outcome}"))
            for end in (point.low, point.high):
                parts.append(line(at - 4, y(end), at + 4, y(end), f"interval {point.outcome}"))
        marks.append(marker(at, y(point.y), point))
    return parts + marks


def _free(
    true: float, top: float, low: float, taken: Sequence[tuple[float, float, float]], ends: tuple[float, float]
) -> float:
    """The nearest place to `true` where nothing is, else `true`."""
    step = 2 * RADIUS + 4
    for away in (k * sign for k in range(40) for sign in (-step, step)):
        at = true + away
        if ends[0] <= at <= ends[1] and not any(abs(at - a) < step and t < low and top < b for a, t, b in taken):
            return at
    return true


def strips(rows: Sequence[Strip], axis: str, title: str) -> Markup:
    """Each row on one axis from 0 to 1, with its interval and its chance band."""

    def draw(width: float) -> Markup:
        pitch = 58.0 if width < 500 else 38.0
        left = 12.0 if width < 500 else 310.0
        scale = Scale(0, 1, (left, width - 14))
        bottom = 22 + pitch * len(rows)
        parts = [text(scale(0), 12, axis, "label")]
        for value in scale.ticks(5):
            parts.append(line(scale(value), 20, scale(value), bottom, "grid"))
            parts.append(text(scale(value), bottom + 15, plain(value), "tick", "middle"))
        for i, strip in enumerate(rows):
            parts += _strip(strip, scale, 22 + pitch * i, pitch, left)
        told = "; ".join(f"{row.name}: {row.told}" for row in rows)
        return svg(width, bottom + 22, f"{title} {told}", parts)

    return both(draw)


def _strip(strip: Strip, scale: Scale, top: float, pitch: float, left: float) -> list[Markup]:
    middle = top + pitch - 17
    low, high = strip.band
    parts = [
        box(scale(low), middle - 11, max(scale(high) - scale(low), 2), 22, "band"),
        line(scale(strip.null), middle - 11, scale(strip.null), middle + 11, "null"),
    ]
    if left > 100:
        parts.append(text(left - 14, middle + 4, shorten(strip.name, FITS), "name", "end"))
    else:
        parts.append(text(left, middle - 17, shorten(strip.name, FITS), "name"))
    point = strip.point
    if point.low is not None and point.high is not None:
        parts.append(line(scale(point.low), middle, scale(point.high), middle, f"interval {point.outcome}"))
    return [*parts, marker(scale(point.x), middle, point)]
