"""How many event streams one process of the gateway keeps open, in total and of each tenant."""

from __future__ import annotations

import threading

from services.gateway.fair_places import has_place
from shared.errors import QuotaReached, TransientError


class StreamSlot:
    """One of the streams that may be open at once; releasing it twice has no effect."""

    def __init__(self, slots: StreamSlots, tenant: str) -> None:
        self._slots: StreamSlots | None = slots
        self._tenant = tenant

    def release(self) -> None:
        slots, self._slots = self._slots, None
        if slots is not None:
            slots.give_back(self._tenant)


class StreamSlots:
    """The slots of one process. Safe for many threads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._taken: dict[str, int] = {}

    def take(self, tenant: str, quota: int | None) -> StreamSlot:
        """A slot for a stream of the tenant, which may have `quota` of them (None: any number).

        Raises:
            QuotaReached: the tenant has as many streams as it may.
            TransientError: the process has as many as it may, or leaves the rest to others.
        """
        advice = "try again, or request JSON pages"
        with self._lock:
            taken = self._taken.get(tenant, 0)
            if quota is not None and taken >= quota:
                raise QuotaReached(
                    f"event streams you have open: {taken}, which is your limit: {advice}"
                )
            if not has_place(tenant, self._taken, self._limit):
                is_full = sum(self._taken.values()) >= self._limit
                raise TransientError(
                    f"{self._limit} event streams are open, which is the limit: {advice}"
                    if is_full
                    else f"all event streams are open that you may have beside others: {advice}"
                )
            self._taken[tenant] = taken + 1
        return StreamSlot(self, tenant)

    def give_back(self, tenant: str) -> None:
        """A stream of the tenant has ended."""
        with self._lock:
            left = self._taken[tenant] - 1
            if left:
                self._taken[tenant] = left
            else:
                del self._taken[tenant]
