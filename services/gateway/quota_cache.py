"""The quotas of tenants, read again every few seconds."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from shared.jobs.database import Database
from shared.jobs.quotas import Quotas, load_quotas

CACHE_S = 5.0  # so long a changed quota may still be the old one
MAX_TENANTS = 4096


class QuotaCache:
    """The quotas of the `MAX_TENANTS` tenants that asked last. Safe for many threads."""

    def __init__(self, db: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._db, self._clock = db, clock
        self._entries: OrderedDict[str, tuple[Quotas, float]] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, tenant: str) -> Quotas:
        """The quotas of a tenant. Raises TransientError: the job store did not answer."""
        now = self._clock()
        with self._lock:
            quotas, until = self._entries.get(tenant, (None, 0.0))
        if quotas is not None and now < until:
            return quotas
        quotas = load_quotas(self._db, tenant)
        with self._lock:
            self._entries[tenant] = quotas, now + CACHE_S
            self._entries.move_to_end(tenant)
            if len(self._entries) > MAX_TENANTS:
                self._entries.popitem(last=False)
        return quotas
