"""Curves without axes."""

from __future__ import annotations

import re

from services.gateway.console.sparkline import HEIGHT, WIDTH, draw_sparkline


def test_a_falling_curve_falls_within_its_frame() -> None:
    line = draw_sparkline([(1, 1.0), (2, 0.1), (4, 0.001)])
    assert line is not None
    places = [tuple(map(float, pair)) for pair in re.findall(r"([\d.]+) ([\d.]+)", line.path)]
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    assert [y for _, y in places] == sorted(y for _, y in places)
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in places)
    assert (line.first, line.last) == (1.0, 0.001)


def test_what_is_no_curve_is_not_drawn() -> None:
    nan = float("nan")
    assert draw_sparkline([]) is None
    assert draw_sparkline([(1, 0.5), (2, nan), (3, float("inf"))]) is None
    flat = draw_sparkline([(1, 0.0), (1, -1.0)])
    assert flat is not None
    assert "nan" not in flat.path
