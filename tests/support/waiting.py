"""Waiting for events. A wait ends when its event comes, so a long one costs nothing where all is well."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 600.0  # seconds, for whatever needs a bound: what takes 5 s on an idle machine may take 100 on a busy one


def wait_for(what: Callable[[], T], seconds: float, why: str) -> T:
    """Poll until `what()` is true; its value."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if value := what():
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {why}")


class FastClock:
    """In the place of the module `time`: a sleep takes no time, and an hour passes."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, _seconds: float) -> None:
        self.now += 3600
