"""Turns: what is work of this very process few requests do at a time, few wait for, and others come
again for.

Planning one request does at a time: under Python's one lock, a hundred plans side by side would
take as long as one after the other, and everything else would wait for them, /livez too. Reading
data files waits for the disk: some do at a time, outside of the turn to plan.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import TransientError

MAX_WAITING = 8  # requests, each of which keeps a thread
MAX_WAIT_S = 5.0  # the largest plan takes about a second of CPU, in which no file is read
READERS = 4  # requests at a time for which data files are read


class PlanningLimiter:
    """One at a time, or a few, with a short queue."""

    def __init__(
        self,
        doing: str,
        at_once: int = 1,
        *,
        max_waiting: int = MAX_WAITING,
        max_wait_s: float = MAX_WAIT_S,
    ) -> None:
        """`doing`: what is done for a request, for messages."""
        self._doing = doing
        self._slots = threading.BoundedSemaphore(max_waiting + at_once)
        self._lock = threading.BoundedSemaphore(at_once)
        self._max_wait_s = max_wait_s

    @contextmanager
    def acquire(self) -> Iterator[None]:
        """Plan exclusively; waits for requests before this one.

        Raises:
            TransientError: too many requests wait already, or the wait took too long.
        """
        if not self._slots.acquire(blocking=False):
            raise TransientError(
                f"this gateway is {self._doing} other requests, and as many wait as may"
            )
        try:
            if not self._lock.acquire(timeout=self._max_wait_s):
                raise TransientError(
                    f"this gateway was {self._doing} other requests for {self._max_wait_s:g} s"
                )
            try:
                yield
            finally:
                self._lock.release()
        finally:
            self._slots.release()
