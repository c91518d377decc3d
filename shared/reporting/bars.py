"""Horizontal bars: one per name, from 0, with the least and the most of what it is the mean of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from shared.reporting.drawing import (
    Scale,
    build_svg,
    draw_both_widths,
    draw_box,
    draw_line,
    draw_text,
)

MAX_NAME_LENGTH = 40  # characters beside or above a bar
VALUE_WIDTH = 74.0  # of the numbers at the right


@dataclass(frozen=True)
class Bar:
    """`value` is not negative, None where there is none; `text` is how it reads."""

    name: str
    value: float | None
    least: float | None
    most: float | None
    text: str


def draw_bars(bars: Sequence[Bar], axis: str, title: str) -> Markup:
    """All bars on one axis, names on the left, or above each on narrow screens."""
    ends = [end for bar in bars for end in (bar.value, bar.most) if end is not None]
    longest = max(ends, default=0.0) or 1.0

    def draw(width: float) -> Markup:
        is_narrow = width < 500
        pitch, top = (34.0, 22.0) if is_narrow else (24.0, 24.0)
        left = 2.0 if is_narrow else 310.0
        scale = Scale(0, longest, (left, width - VALUE_WIDTH))
        parts = [draw_text(left, 12, axis, "label")]
        for place, bar in enumerate(bars):
            middle = top + pitch * place + (22 if is_narrow else 12)
            parts.append(_draw_bar(bar, scale, middle, width, is_narrow))
        descriptions = "; ".join(f"{bar.name}: {bar.text}" for bar in bars)
        return build_svg(width, top + pitch * len(bars) + 6, f"{title} {descriptions}", parts)

    return draw_both_widths(draw)


def _draw_bar(bar: Bar, scale: Scale, middle: float, width: float, is_narrow: bool) -> Markup:
    name, left = shorten_path(bar.name, MAX_NAME_LENGTH), scale.pixels[0]
    parts = [
        draw_text(left, middle - 9, name, "name")
        if is_narrow
        else draw_text(left - 12, middle + 4, name, "name", "end"),
        draw_line(left, middle - 7, left, middle + 7, "axis"),
    ]
    if bar.value:
        parts.append(draw_box(left, middle - 5, max(scale(bar.value) - left, 1.0), 10, "bar"))
    if bar.least is not None and bar.most is not None:
        parts.append(draw_line(scale(bar.least), middle, scale(bar.most), middle, "whisker"))
    parts.append(draw_text(width - 2, middle + 4, bar.text, "tick", "end"))
    return Markup("<g><title>{}: {}</title>{}</g>").format(
        bar.name, bar.text, Markup("").join(parts)
    )


def shorten_path(name: str, length: int) -> str:
    """Shorten a dotted name to fit: the middle of its longest parts is left out, as what tells
    layers apart may stand in any of them."""
    for longest in range(length, 3, -1):
        parts = [_shorten_middle(part, longest) for part in name.split(".")]
        if len(text := ".".join(parts)) <= length:
            return text
    return "…" + name[1 - length :]


def _shorten_middle(part: str, length: int) -> str:
    if len(part) <= length:
        return part
    end = length // 2
    return f"{part[: length - end - 1]}…{part[-end:]}"
