"""How many jobs are in each state, cached for clients that poll.

Counting scans all jobs. While that is cheap, every caller gets a new count. When it is slow,
callers get the latest count and a new one is made in the background, so that polling costs the same
with any number of jobs.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from services.gateway.snapshot_cache import Snapshot, SnapshotCache

Counts = dict[str, dict[str, int]]

CHEAP_S = 0.01  # a count that takes less is made for every caller
MAX_AGE_S = 5.0  # an older count is never returned


class QueueCountsCaches:
    """A cache of its own for each tenant, and one over all tenants (None); those of the `MAX_TENANTS`
    that asked last."""

    MAX_TENANTS = 256

    def __init__(self, count: Callable[[str | None], Counts]) -> None:
        self._count = count
        self._caches: OrderedDict[str | None, SnapshotCache[Counts]] = OrderedDict()
        self._lock = threading.Lock()

    def current(self, tenant: str | None) -> Snapshot[Counts]:
        """The latest count, which may be a few seconds old where counting takes long.

        Raises:
            TransientError: the job store did not answer.
        """
        with self._lock:
            if tenant not in self._caches:
                self._caches[tenant] = SnapshotCache(
                    "the numbers of jobs",
                    lambda: self._count(tenant),
                    interval_s=0.0,
                    max_age_s=MAX_AGE_S,
                    wait_s=0.0,
                    cheap_s=CHEAP_S,
                )
            cache = self._caches[tenant]
            self._caches.move_to_end(tenant)
            if len(self._caches) > self.MAX_TENANTS:
                self._caches.popitem(last=False)
        return cache.get_current()
