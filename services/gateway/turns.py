"""Turns: planning is work of this very process, so one request at a time plans, few wait, and others come again.

Under Python's one lock, a hundred plans side by side would take as long as one after the other, and everything else
would wait for them, /livez too.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import TransientError

WAITING = 8  # requests that may wait, each of which holds a thread
PATIENCE_S = 5.0  # how long; the largest plan takes about a second of CPU


class Turns:
    """One at a time, with a short queue."""

    def __init__(self, waiting: int = WAITING, patience_s: float = PATIENCE_S) -> None:
        self._places = threading.BoundedSemaphore(waiting + 1)
        self._turn = threading.Lock()
        self._patience_s = patience_s

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until it is one's turn.

        Raises:
            TransientError: too many wait already, or it took too long.
        """
        if not self._places.acquire(blocking=False):
            raise TransientError("this gateway is planning other requests, and as many wait as may")
        try:
            if not self._turn.acquire(timeout=self._patience_s):
                raise TransientError(f"this gateway was planning other requests for {self._patience_s:g} s")
            try:
                yield
            finally:
                self._turn.release()
        finally:
            self._places.release()
