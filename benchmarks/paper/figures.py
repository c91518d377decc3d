"""The figures of docs/results.md: charts as self-contained SVG, images as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from markupsafe import Markup
from torch import Tensor

from shared.reporting.drawing import Scale, build_svg, draw_line, draw_text, fit_scale, format_tick

LEFT, RIGHT, TOP, BOTTOM, KEY_HEIGHT = 52.0, 14.0, 26.0, 40.0, 20.0
WIDTH, HEIGHT = 760.0, 320.0
COLOURS = ("#0b6bcb", "#c2410c", "#15803d", "#7c3aed", "#64748b")
STYLE = """<style>text{font:13px system-ui,sans-serif;fill:#1f2937}.grid{stroke:#e5e7eb}.axis{stroke:#6b7280}
.baseline{stroke:#6b7280;stroke-dasharray:5 4}.tick,.baseline-name{fill:#4b5563;font-size:12px}.paper{fill:#fff}
@media(prefers-color-scheme:dark){text{fill:#e5e7eb}.grid{stroke:#374151}.tick,.baseline-name{fill:#9ca3af}.paper{fill:#111827}}
</style>"""
ENLARGEMENT = 2


@dataclass(frozen=True)
class DataPoint:
    """One value with its interval, in a category."""

    category: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Series:
    """Marks of one colour, joined by a line where `joined`."""

    name: str
    points: Sequence[DataPoint]
    has_line: bool = True


def draw_chart(
    title: str,
    unit: str,
    series: Sequence[Series],
    *,
    baseline: float | None = None,
    share: bool = False,
) -> str:
    """Values with 95 % intervals over categories, as an SVG file.

    Args:
        baseline: what no knowledge gives, a dashed line.
        share: the scale goes from 0 to 1, whatever the values.
    """
    categories = list(dict.fromkeys(mark.category for one in series for mark in one.points))
    ends = [end for one in series for mark in one.points for end in (mark.low, mark.high)]
    ends += [] if baseline is None else [baseline]
    scale = Scale(0, 1, (0, 1)) if share else fit_scale(ends, 4)
    y = replace(scale, pixels=(HEIGHT - BOTTOM, TOP))
    key = KEY_HEIGHT * len(series)
    step = (WIDTH - LEFT - RIGHT) / len(categories)
    parts = [Markup(STYLE), Markup('<rect class="paper" width="100%" height="100%"/>')]
    for value in y.compute_ticks(6):
        parts += [
            draw_line(LEFT, y(value), WIDTH - RIGHT, y(value), "grid"),
            draw_text(LEFT - 8, y(value) + 4, format_tick(value), "tick", "end"),
        ]
    parts += [
        draw_text(4, 14, unit, "label"),
        draw_line(LEFT, y.pixels[0], WIDTH - RIGHT, y.pixels[0], "axis"),
    ]
    for place, category in enumerate(categories):
        parts.append(
            draw_text(LEFT + step * (place + 0.5), HEIGHT - BOTTOM + 20, category, "tick", "middle")
        )
    if baseline is not None:
        parts += [
            draw_line(LEFT, y(baseline), WIDTH - RIGHT, y(baseline), "baseline"),
            draw_text(WIDTH - RIGHT, y(baseline) - 5, "chance", "baseline-name", "end"),
        ]
    for number, one in enumerate(series):
        shift = (number - (len(series) - 1) / 2) * min(24.0, step / (len(series) + 1))
        x_by_category = {
            c: LEFT + step * (place + 0.5) + shift for place, c in enumerate(categories)
        }
        parts += _draw_series(one, x_by_category, y, COLOURS[number % len(COLOURS)])
        top = HEIGHT + KEY_HEIGHT * number
        parts.append(_draw_dot(LEFT + 6, top - 4, COLOURS[number % len(COLOURS)]))
        parts.append(draw_text(LEFT + 18, top, one.name, "key"))
    rendered = build_svg(WIDTH, HEIGHT + key, title, parts)
    return str(rendered).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1) + "\n"


def _draw_series(
    one: Series, x_by_category: dict[str, float], y: Scale, colour: str
) -> list[Markup]:
    parts: list[Markup] = []
    path = " ".join(f"{x_by_category[m.category]:.1f},{y(m.value):.1f}" for m in one.points)
    if one.has_line and len(one.points) > 1:
        parts.append(
            Markup(
                '<polyline points="{}" fill="none" stroke="{}" stroke-width="1.5" opacity=".6"/>'
            ).format(path, colour)
        )
    for mark in one.points:
        x = x_by_category[mark.category]
        parts.append(
            Markup(
                '<line x1="{0:.1f}" x2="{0:.1f}" y1="{1:.1f}" y2="{2:.1f}" stroke="{3}" stroke-width="2"/>'
            ).format(x, y(mark.low), y(mark.high), colour)
        )
        parts.append(_draw_dot(x, y(mark.value), colour))
    return parts


def _draw_dot(x: float, y: float, colour: str) -> Markup:
    return Markup('<circle cx="{:.1f}" cy="{:.1f}" r="5" fill="{}"/>').format(x, y, colour)


def save_image_grid(rows: Sequence[Tensor], path: str) -> None:
    """Save rows of images [n, C, H, W] in [0, 1] as one PNG file."""
    from torchvision.transforms.functional import to_pil_image  # here: it takes two seconds
    from torchvision.utils import make_grid

    images = torch.cat([row.clamp(0, 1) for row in rows])
    images = images.repeat_interleave(ENLARGEMENT, 2).repeat_interleave(ENLARGEMENT, 3)
    to_pil_image(make_grid(images, nrow=len(rows[0]), padding=4, pad_value=1.0)).save(
        path, optimize=True
    )
