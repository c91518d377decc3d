"""How many jobs are in each state, cached for clients that poll.

Counting scans all jobs. While that is cheap, every caller gets a new count. When it is slow,
callers get the latest count and a new one is made in the background, so that polling costs the same
with any number of jobs.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from shared.errors import PalimpsestError

log = structlog.get_logger()

Counts = dict[str, dict[str, int]]


@dataclass(frozen=True)
class CountSnapshot:
    """A count, when it was started (monotonic clock) and how long it took."""

    counts: Counts
    started_at: float
    took_s: float

    @property
    def age_s(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self.started_at


class QueueCountsCaches:
    """A cache of its own for each tenant, and one over all tenants (None); those of the `MAX_TENANTS`
    that asked last."""

    MAX_TENANTS = 256

    def __init__(self, count: Callable[[str | None], Counts]) -> None:
        self._count = count
        self._caches: OrderedDict[str | None, QueueCountsCache] = OrderedDict()
        self._lock = threading.Lock()

    def current(self, tenant: str | None) -> CountSnapshot:
        """See `QueueCountsCache.current`."""
        with self._lock:
            if tenant not in self._caches:
                self._caches[tenant] = QueueCountsCache(lambda: self._count(tenant))
            cache = self._caches[tenant]
            self._caches.move_to_end(tenant)
            if len(self._caches) > self.MAX_TENANTS:
                self._caches.popitem(last=False)
        return cache.current()


class QueueCountsCache:
    """The latest count. Safe for many threads."""

    CHEAP_S = 0.01  # a count that takes less is made for every caller
    MAX_AGE_S = 5.0  # an older count is never returned
    MAX_THREAD_SHARE = 0.1  # of one thread's time, at most, for counting

    def __init__(self, count: Callable[[], Counts]) -> None:
        self._count = count
        self._latest: CountSnapshot | None = None
        self._refresh_lock = threading.Lock()

    def current(self) -> CountSnapshot:
        """The latest count, which may be a few seconds old where counting takes long.

        Raises:
            TransientError: the job store did not answer.
        """
        last = self._latest
        if last is None or last.took_s < self.CHEAP_S or last.age_s > self.MAX_AGE_S:
            return self._refresh()
        if last.age_s > last.took_s / self.MAX_THREAD_SHARE and self._refresh_lock.acquire(
            blocking=False
        ):
            threading.Thread(target=self._refresh_in_background, daemon=True).start()
        return last

    def _refresh(self) -> CountSnapshot:
        started_at = time.monotonic()
        counts = self._count()
        self._latest = CountSnapshot(counts, started_at, time.monotonic() - started_at)
        return self._latest

    def _refresh_in_background(self) -> None:
        try:
            self._refresh()
        except PalimpsestError as error:
            # the next caller for whom the count is too old gets the error
            log.warning("counting jobs failed", error=str(error))
        finally:
            self._refresh_lock.release()
