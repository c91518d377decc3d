"""One case: what it shows, how it is measured, and the bounds of the answer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Case:
    """`measure` runs the product's code and returns a number in `unit`; bounds are inclusive, None:
    unbounded."""

    name: str
    shows: str
    measure: Callable[[], float]
    low: float | None
    high: float | None
    unit: str

    def run(self) -> dict[str, Any]:
        """Run the case; the result is rounded to three digits. Errors and values that are not
        finite fail it.

        Errors are recorded as text. Three digits are the same on other processors.
        """
        measured, error = None, None
        try:
            value = float(self.measure())
            if math.isfinite(value):
                measured = float(f"{value:.3g}")
            else:
                error = f"measured {value}"
        except Exception as raised:
            # whatever breaks in the code under test fails this case; the others still run
            error = f"{type(raised).__name__}: {raised}"[:500]
        passed = measured is not None and self._within(value)
        return {
            "name": self.name, (
                "shows"
            ): self.shows, "measured": measured, "low": self.low, "high": self.high,
            "unit": self.unit, "passed": passed, "error": error,
        }  # fmt: skip

    def _within(self, value: float) -> bool:
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)
