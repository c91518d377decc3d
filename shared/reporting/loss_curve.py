"""The chart of a search: its matching loss over its steps, on a logarithmic axis."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil, floor, log10

from markupsafe import Markup

from shared.reporting.drawing import (
    Scale,
    build_svg,
    draw_both_widths,
    draw_line,
    draw_text,
    format_tick,
)

WIDTH = 620.0  # pixels of the wide one: it stands beside other things
LEFT, TOP, HEIGHT, BOTTOM = 52.0, 26.0, 170.0, 42.0
LOWEST = 1e-7  # what is below is rounding


def draw_loss_curve(points: Sequence[tuple[float, float]], total: float | None = None) -> Markup:
    """The curve of `points` (step, loss), in the order of the steps; "" of fewer than two.

    Args:
        total: steps that there will be; by default, those of the last point.
    """
    if len(points) < 2:
        return Markup("")
    losses = [max(loss, LOWEST) for _, loss in points]
    steps = [step for step, _ in points]
    last_step = max(total or 0.0, *steps)

    def draw(width: float) -> Markup:
        x = Scale(0, last_step, (LEFT, width - 22))
        low, high = log10(min(losses)), log10(max(losses))
        margin = max(0.06 * (high - low), 0.05)
        y = Scale(low - margin, high + margin, (TOP + HEIGHT, TOP))
        parts = [draw_text(2, 12, "matching loss, logarithmic", "label")]
        for value in list_log_ticks(y.start, y.end):
            at = y(log10(value))
            parts.append(draw_line(LEFT, at, width, at, "grid"))
            parts.append(draw_text(LEFT - 6, at + 4, format_tick(value), "tick", "end"))
        parts += _draw_steps(x, width)
        at_points = [(x(step), y(log10(loss))) for step, loss in zip(steps, losses, strict=True)]
        parts += [draw_line(*one, *other, "trend") for one, other in pairwise(at_points)]
        dot = Markup('<circle class="latest" cx="{:.1f}" cy="{:.1f}" r="4"/>')
        parts.append(dot.format(*at_points[-1]))
        return build_svg(width, TOP + HEIGHT + BOTTOM, _describe(points, last_step), parts)

    return draw_both_widths(draw, WIDTH)


def list_log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten between 10**low and 10**high; twice and five times them too where these are
    few."""
    powers = range(floor(low), ceil(high) + 1)
    for factors in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        ticks = [f * 10.0**power for power in powers for f in factors]
        ticks = [float(f"{tick:.2g}") for tick in ticks if low <= log10(tick) <= high]
        if len(ticks) > 2:
            break
    return ticks


def _draw_steps(x: Scale, width: float) -> list[Markup]:
    base = TOP + HEIGHT
    parts = [draw_line(LEFT, base, width, base, "axis")]
    for value in x.compute_ticks(max(3, int(width / 130))):
        parts.append(draw_line(x(value), base, x(value), base + 5, "axis"))
        parts.append(draw_text(x(value), base + 18, format_tick(value), "tick", "middle"))
    return [*parts, draw_text(width - 2, base + BOTTOM - 6, "steps", "label", "end")]


def _describe(points: Sequence[tuple[float, float]], last_step: float) -> str:
    """The text alternative of the chart."""
    (first, at_first), (last, at_last) = points[0], points[-1]
    return (
        f"Matching loss of the search: {at_first:.3g} after step {first:g}, {at_last:.3g} after "
        f"step {last:g} of {last_step:g}"
    )
