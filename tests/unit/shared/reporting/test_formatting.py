"""Numbers of the report as text."""

from __future__ import annotations

import pytest

from shared.reporting.formatting import format_percent


@pytest.mark.parametrize(
    ("percent", "text"),
    [(0.0312, "0.031"), (4.94, "4.9"), (9.96, "10"), (31.2, "31"), (100, "100"), (1234, "1,234")],
)
def test_a_percentage_has_two_digits_and_no_exponent(percent: float, text: str) -> None:
    assert format_percent(percent) == text
