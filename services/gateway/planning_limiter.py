"""Limits planning and the reading of data files: a few requests at a time, the rest get a 503.

One request at a time plans: because of the GIL, a hundred plans at once would take as long as one
after the other, and all other requests, /livez included, would wait for them. Reading data files
waits for the disk: a few requests at a time do that, and others plan meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import TransientError

MAX_WAITING = 8  # requests, each of which keeps a thread
MAX_WAIT_S = 5.0  # the largest plan takes about a second of CPU, in which no file is read
READERS = 4  # requests at a time that read data files


class PlanningLimiter:
    """A semaphore with a bounded number of waiters and a bounded wait."""

    def __init__(
        self,
        activity: str,
        max_concurrent: int = 1,
        *,
        max_waiting: int = MAX_WAITING,
        max_wait_s: float = MAX_WAIT_S,
    ) -> None:
        """`activity`: what is limited, for messages, such as "planning"."""
        self._activity = activity
        self._admitted = threading.BoundedSemaphore(max_waiting + max_concurrent)
        self._running = threading.BoundedSemaphore(max_concurrent)
        self._max_wait_s = max_wait_s

    @contextmanager
    def acquire(self) -> Iterator[None]:
        """Wait for requests before this one, and count as running meanwhile.

        Raises:
            TransientError: too many requests wait already, or the wait took too long.
        """
        if not self._admitted.acquire(blocking=False):
            raise TransientError(
                f"the gateway is busy {self._activity} other requests, and its queue is full"
            )
        try:
            if not self._running.acquire(timeout=self._max_wait_s):
                raise TransientError(
                    f"the gateway was busy {self._activity} other requests "
                    f"for {self._max_wait_s:g} s"
                )
            try:
                yield
            finally:
                self._running.release()
        finally:
            self._admitted.release()
