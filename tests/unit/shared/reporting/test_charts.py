"""Charts: they are well formed, nothing covers anything, and the bands are right."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as some

from shared.reporting.binomial import chance_band
from shared.reporting.charts import Strip, draw_strips, draw_tradeoff
from shared.reporting.drawing import RADIUS, Point, Scale, ScoreAxis, fit_scale

PSNR = ScoreAxis("PSNR", "dB", higher_is_better=True)


def point(mark: str, x: float, y: float, title: str = "a row") -> Point:
    return Point(mark, x, y, y - 1, y + 1, "leak", title)


def test_a_hostile_name_stays_text() -> None:
    nasty = "</svg><script>alert(1)</script>"
    row = Strip("1", nasty, nasty, (0.0, 0.4), 0.1, point("1", 0.5, 0.5, nasty))
    for drawn in (
        draw_tradeoff([point("1", 0.9, 20, nasty)], [13.0], [0.98], ScoreAxis(nasty, nasty, True)),
        draw_strips([row], nasty, nasty),
    ):
        tree = ElementTree.fromstring(f"<div>{drawn}</div>")
        assert not list(tree.iter("script"))
        assert len(list(tree.iter("svg"))) == 2  # wide and narrow


def test_rows_at_one_place_do_not_cover_each_other() -> None:
    drawn = draw_tradeoff(
        [point(str(i), 0.97, 10 + 0.01 * i) for i in range(6)], [13.0], [0.98], PSNR
    )
    wide = drawn[: drawn.index('class="narrow"')]
    places = [float(x) for x in re.findall(r'<circle cx="([0-9.]+)"', wide)]
    assert len(places) == 6
    gaps = [b - a for a, b in zip(sorted(places), sorted(places)[1:], strict=False)]
    assert min(gaps) >= 2 * RADIUS


def test_a_row_without_an_interval_is_drawn_without_bars() -> None:
    assert "interval" not in draw_tradeoff(
        [Point("1", 0.9, 20, None, None, "inconclusive", "t")], [], [], PSNR
    )


@pytest.mark.parametrize(
    ("n", "share"), [(8, 0.1), (8, 1 / 101), (30, 0.5), (1, 0.1), (5, 0.0), (5, 1.0)]
)
def test_the_chance_band_leaves_at_most_its_tails_outside(n: int, share: float) -> None:
    low, high = chance_band(n, share)

    def probability(k: int) -> float:
        return math.comb(n, k) * share**k * (1 - share) ** (n - k)

    assert sum(probability(k) for k in range(n + 1) if k / n < low) <= 0.025
    assert sum(probability(k) for k in range(n + 1) if k / n > high) <= 0.025 + 1e-12


@pytest.mark.parametrize("n", [2000, 1_000_000])
def test_the_chance_band_is_computed_for_many(n: int) -> None:
    half = 1.96 * math.sqrt(0.3 * 0.7 / n)
    assert chance_band(n, 0.3) == pytest.approx((0.3 - half, 0.3 + half), abs=2 / n)


def test_scores_below_zero_are_drawn() -> None:
    assert "circle" in draw_tradeoff([point("1", 0.9, -30.0)], [-28.0], [0.98], PSNR)


@given(some.floats(-100, 100), some.floats(0.01, 100), some.integers(3, 8))
def test_ticks_are_few_and_within_the_scale(start: float, length: float, about: int) -> None:
    ticks = Scale(start, start + length, (0, 100)).compute_ticks(about)
    assert 1 <= len(ticks) <= about + 1
    assert all(start - 1e-6 <= tick <= start + length + 1e-6 for tick in ticks)


def test_a_scale_holds_all_values_and_keeps_its_bounds() -> None:
    scale = fit_scale([0.99, 1.0], 0.04, (0, 1))
    assert scale.start < 0.99
    assert scale.end == 1


@pytest.mark.parametrize(
    ("axis", "words"),
    [
        (PSNR, "PSNR in dB, higher leaks more"),
        (ScoreAxis("MSE", "1", higher_is_better=False), "MSE, lower leaks more"),
        (ScoreAxis("AUC", "share", higher_is_better=True), "AUC, higher leaks more"),
        (
            ScoreAxis("distance", "pixels", higher_is_better=False),
            "distance in pixels, lower leaks more",
        ),
    ],
)
def test_an_axis_says_its_unit_and_which_way_leaks_more(axis: ScoreAxis, words: str) -> None:
    drawn = draw_tradeoff([point("1", 0.9, 20.0)], [13.0], [0.98], axis)
    assert re.findall(r'<text class="label"[^>]*>([^<]*leaks more)</text>', drawn) == [words] * 2


@pytest.mark.parametrize(("unit", "least"), [("dB", 4.0), ("share", 0.1)])
def test_small_differences_are_not_drawn_as_if_they_were_large(unit: str, least: float) -> None:
    """An axis of decibels spans 4 of them at least, whatever the chart calls it."""
    axis = ScoreAxis("score", unit, higher_is_better=True)
    scale = axis.scale([20.0, 20.01])
    assert scale.end - scale.start == pytest.approx(least)
