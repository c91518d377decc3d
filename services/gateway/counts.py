"""How many jobs are in each state, for those who look again and again.

Counting walks over all jobs there are. While that is quick every caller gets a new count. Where it takes long, the
last one is answered and a new one is made beside, so that looking costs the same however many jobs there are.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from shared.errors import PalimpsestError

log = structlog.get_logger()

Counts = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Counted:
    """A count, when it was begun (monotonic clock) and how many seconds it took."""

    counts: Counts
    at: float
    took: float

    @property
    def age(self) -> float:
        """Seconds since it was begun."""
        return time.monotonic() - self.at


class QueueCounts:
    """The latest count. Safe for many threads."""

    QUICK = 0.01  # seconds: a count that takes less is made for every caller
    OLD = 5.0  # seconds: an older count is nobody's answer
    SHARE = 0.1  # of one thread's time that counting may take

    def __init__(self, count: Callable[[], Counts]) -> None:
        self._count = count
        self._last: Counted | None = None
        self._counting = threading.Lock()

    def current(self) -> Counted:
        """The latest count, which may be a few seconds old where counting takes long.

        Raises:
            TransientError: the job store did not answer.
        """
        last = self._last
        if last is None or last.took < self.QUICK or last.age > self.OLD:
            return self._renew()
        if last.age > last.took / self.SHARE and self._counting.acquire(blocking=False):
            threading.Thread(target=self._renew_beside, daemon=True).start()
        return last

    def _renew(self) -> Counted:
        at = time.monotonic()
        counts = self._count()
        self._last = Counted(counts, at, time.monotonic() - at)
        return self._last

    def _renew_beside(self) -> None:
        try:
            self._renew()
        except PalimpsestError as error:  # the next caller to whom the count is too old is told
            log.warning("jobs were not counted", error=str(error))
        finally:
            self._counting.release()
