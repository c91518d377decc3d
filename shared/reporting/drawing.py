"""Charts as inline SVG. Colours are classes of the page's style sheet, so dark mode and print
apply.

Every chart comes in two widths, as text scaled down to a phone would be unreadable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from markupsafe import Markup

from shared.reporting.models import Outcome

WIDE, NARROW = 900, 350
RADIUS = 10


@dataclass(frozen=True)
class Point:
    """One row on a chart: `mark` is the number that the key below the chart explains."""

    mark: str
    x: float
    y: float
    low: float | None
    high: float | None
    outcome: Outcome
    title: str


@dataclass(frozen=True)
class Scale:
    """A linear map from values to pixels."""

    start: float
    end: float
    pixels: tuple[float, float]

    def __call__(self, value: float) -> float:
        share = (value - self.start) / (self.end - self.start)
        return self.pixels[0] + share * (self.pixels[1] - self.pixels[0])

    def compute_ticks(self, about: int) -> list[float]:
        """Round values within the scale."""
        step = 10 ** floor(log10((self.end - self.start) / about))
        step *= next(m for m in (1, 2, 5, 10) if (self.end - self.start) / (step * m) <= about)
        first, last = ceil(self.start / step - 1e-9), floor(self.end / step + 1e-9)
        return [round(i * step, 10) for i in range(first, last + 1)]


def fit_scale(
    values: Sequence[float],
    min_span: float,
    bounds: tuple[float, float] = (float("-inf"), float("inf")),
) -> Scale:
    """A scale that contains all values with a margin and spans at least `min_span`; its pixels are
    set later."""
    low, high = min(values), max(values)
    margin = max(0.08 * (high - low), (min_span - (high - low)) / 2)
    return Scale(max(bounds[0], low - margin), min(bounds[1], high + margin), (0, 1))


@dataclass(frozen=True)
class ScoreAxis:
    """The vertical axis of a score: its name, its unit, and which direction leaks more."""

    name: str
    unit: str
    higher_is_better: bool  # for the attacker

    @property
    def label(self) -> str:
        """`PSNR in dB, higher leaks more`."""
        unit = "" if self.unit in ("share", "1") else f" in {self.unit}"
        return f"{self.name}{unit}, {'higher' if self.higher_is_better else 'lower'} leaks more"

    def scale(self, values: Sequence[float]) -> Scale:
        """A scale that contains all values without exaggerating small differences."""
        return fit_scale(values, 4 if self.unit == "dB" else 0.1, (min(0, *values), float("inf")))


def draw_both_widths(draw: Callable[[float], Markup], wide: float = WIDE) -> Markup:
    """One drawing for wide pages and paper, and one for narrow screens."""
    return Markup('<div class="wide">{}</div><div class="narrow">{}</div>').format(
        draw(wide), draw(NARROW)
    )


def draw_line(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    return Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(
        style, x1, y1, x2, y2
    )


def draw_text(x: float, y: float, words: str, style: str, anchor: str = "start") -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        style, x, y, anchor, words
    )


def draw_box(x: float, y: float, width: float, height: float, style: str) -> Markup:
    return Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
        style, x, y, width, height
    )


def draw_marker(x: float, y: float, point: Point) -> Markup:
    """A numbered mark; its shape shows the outcome as well as its colour."""
    shape = {
        "leak": Markup('<circle cx="{0:.1f}" cy="{1:.1f}" r="{2}"/>').format(x, y, RADIUS),
        "not_seen": Markup('<rect x="{:.1f}" y="{:.1f}" width="{}" height="{}" rx="2"/>').format(
            x - RADIUS + 1, y - RADIUS + 1, 2 * RADIUS - 2, 2 * RADIUS - 2
        ),
        "inconclusive": Markup('<path d="M{0:.1f} {1:.1f}l{2} {2}l-{2} {2}l-{2} -{2}z"/>').format(
            x, y - RADIUS - 2, RADIUS + 2
        ),
    }[point.outcome]
    return Markup('<g class="mark {}"><title>{}</title>{}{}</g>').format(
        point.outcome, point.title, shape, draw_text(x, y + 4, point.mark, "number", "middle")
    )


def build_svg(width: float, height: float, label: str, parts: Sequence[Markup]) -> Markup:
    """The drawing; `label` is its alternative text."""
    return Markup('<svg viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">{}</svg>').format(
        width, height, label, Markup("").join(parts)
    )


def format_tick(value: float) -> str:
    """A tick's label."""
    return f"{value:g}".replace("-", "−")


def shorten(words: str, length: int) -> str:
    """Shorten words to fit; SVG does not break lines."""
    return words if len(words) <= length else words[: length - 1] + "…"
