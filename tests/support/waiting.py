"""Waiting for events. A wait ends when its event comes, so a long one costs nothing where all is
well."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# seconds, for whatever needs a bound: what takes 5 s on an idle machine may take 100 on a busy one
TIMEOUT_S = 600.0


def wait_for(
    condition: Callable[[], T | None], timeout_s: float, description: str, interval_s: float = 0.1
) -> T:
    """Poll until `condition()` is true; its value. The interval grows up to `interval_s`, so that
    long waits leave the processor to those that are waited for."""
    deadline, pause_s = time.monotonic() + timeout_s, min(0.02, interval_s)
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(pause_s)
        pause_s = min(1.3 * pause_s, interval_s)
    raise AssertionError(f"not within {timeout_s} s: {description}")


class FastClock:
    """In the place of the module `time`: a sleep takes no time, and an hour passes."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, _seconds: float) -> None:
        self.now += 3600
