"""Turns: what is work of this very process few requests do at a time, few wait for, and others come again for.

Planning one request does at a time: under Python's one lock, a hundred plans side by side would take as long as one
after the other, and everything else would wait for them, /livez too. Reading data files waits for the disk: some do at
a time, outside of the turn to plan.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import TransientError

WAITING = 8  # requests that may wait, each of which holds a thread
PATIENCE_S = 5.0  # how long; the largest plan takes about a second of CPU, in which no file is read
READERS = 4  # requests at a time for which data files are read


class Turns:
    """One at a time, or a few, with a short queue."""

    def __init__(self, doing: str, at_once: int = 1, *, waiting: int = WAITING, patience_s: float = PATIENCE_S) -> None:
        """`doing`: what is done for a request, for messages."""
        self._doing = doing
        self._places = threading.BoundedSemaphore(waiting + at_once)
        self._turn = threading.BoundedSemaphore(at_once)
        self._patience_s = patience_s

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until it is one's turn.

        Raises:
            TransientError: too many wait already, or it took too long.
        """
        if not self._places.acquire(blocking=False):
            raise TransientError(f"this gateway is {self._doing} other requests, and as many wait as may")
        try:
            if not self._turn.acquire(timeout=self._patience_s):
                raise TransientError(f"this gateway was {self._doing} other requests for {self._patience_s:g} s")
            try:
                yield
            finally:
                self._turn.release()
        finally:
            self._places.release()
