"""The curve of a search's matching loss."""

from __future__ import annotations

import re

import pytest

from shared.reporting.loss_curve import draw_loss_curve, list_log_ticks


def test_equal_factors_are_equal_distances() -> None:
    chart = str(draw_loss_curve([(0, 1.0), (50, 0.1), (100, 0.01)], 200))
    wide = chart.partition('<div class="narrow">')[0]
    lines = re.findall(r'<line class="trend" x1="(.*?)" y1="(.*?)" x2="(.*?)" y2="(.*?)"/>', wide)
    (x0, y0, x1, y1), (_, _, x2, y2) = (map(float, one) for one in lines)
    assert y1 - y0 == pytest.approx(y2 - y1, abs=0.2)
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert x2 < 620 * 0.6  # half of the steps are to come
    assert "1 after step 0, 0.01 after step 100 of 200" in wide


@pytest.mark.parametrize(
    "points", [[(1, 0.0), (2, -0.5)], [(1, 0.5), (2, 0.5)], [(0, 2.0), (0, 1.0), (1, 1e-12)]]
)
def test_any_losses_can_be_drawn(points: list[tuple[float, float]]) -> None:
    chart = str(draw_loss_curve(points))
    assert "nan" not in chart
    assert chart.count("<svg") == 2


def test_less_than_two_points_are_no_curve() -> None:
    assert draw_loss_curve([(1, 0.5)], 10) == ""


def test_ticks_are_round_and_enough() -> None:
    assert list_log_ticks(-3.1, 0.1) == [0.001, 0.01, 0.1, 1]
    assert list_log_ticks(-1.9, -0.2) == [0.02, 0.05, 0.1, 0.2, 0.5]
    assert list_log_ticks(-0.55, -0.1) == [0.3, 0.5, 0.7]
