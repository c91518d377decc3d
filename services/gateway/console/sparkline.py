"""A curve without axes, for where many stand side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, log10

WIDTH, HEIGHT, MARGIN = 200.0, 36.0, 2.0
LOWEST = 1e-7  # what is below is rounding


@dataclass(frozen=True)
class Sparkline:
    """A curve, and what it says in numbers: its first and its last value."""

    path: str
    first: float
    last: float


def draw_sparkline(points: Sequence[tuple[float, float]]) -> Sparkline | None:
    """The curve of (step, value), values on a logarithmic axis; None of fewer than two points."""
    shown = [(step, value) for step, value in points if isfinite(step) and isfinite(value)]
    if len(shown) < 2:
        return None
    steps, heights = [s for s, _ in shown], [log10(max(v, LOWEST)) for _, v in shown]

    def place(value: float, values: Sequence[float], size: float) -> float:
        low, high = min(values), max(values)
        share = (value - low) / (high - low) if high > low else 0.5
        return MARGIN + share * (size - 2 * MARGIN)

    at = [
        f"{place(step, steps, WIDTH):.1f} {HEIGHT - place(height, heights, HEIGHT):.1f}"
        for step, height in zip(steps, heights, strict=True)
    ]
    return Sparkline("M" + "L".join(at), shown[0][1], shown[-1][1])
