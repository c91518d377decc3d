"""Figures that take long to read, kept for those who ask often: old ones rather than a wait."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog

from shared.errors import PalimpsestError, TransientError

log = structlog.get_logger()
K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


@dataclass(frozen=True)
class Snapshot(Generic[T]):
    """Figures, when reading them began (monotonic clock) and how long it took."""

    value: T
    started_at: float
    took_s: float

    @property
    def age_s(self) -> float:
        """Seconds since reading them began."""
        return time.monotonic() - self.started_at


class SnapshotCache(Generic[T]):
    """Reads at most once at a time, in a thread of its own. Safe for many threads.

    Args:
        name: what is read, as logs and messages say it.
        read: makes the figures; raises TransientError where it cannot.
        interval_s: how old figures may be before new ones are made.
        max_age_s: how old figures may be at all.
        wait_s: how long a caller waits for new ones; then it gets the old ones.
        first_wait_s: the same while there are no old ones.
        cheap_s: figures that took less are made again for every caller, who waits for them.
        max_share: of a thread's time, at most, for reading what is not cheap.
    """

    def __init__(
        self,
        name: str,
        read: Callable[[], T],
        interval_s: float,
        *,
        max_age_s: float = math.inf,
        wait_s: float = 1.0,
        first_wait_s: float = 10.0,
        cheap_s: float = 0.0,
        max_share: float = 0.1,
    ) -> None:
        self._name, self._read = name, read
        self._interval_s, self._max_age_s, self._max_share = interval_s, max_age_s, max_share
        self._wait_s, self._first_wait_s, self._cheap_s = wait_s, first_wait_s, cheap_s
        self._lock = threading.Lock()
        self._latest: Snapshot[T] | None = None
        self._error: PalimpsestError | None = None  # of the last reading
        self._refreshing: threading.Event | None = None

    def find_current(self, wait_s: float | None = None) -> Snapshot[T] | None:
        """The figures: new ones if they are made in time, else old ones; None if there are none.

        Args:
            wait_s: how long to wait for new ones, instead of what the cache was made with.
        """
        with self._lock:
            latest = self._find_usable()
            if latest is not None and latest.age_s <= self._get_interval(latest):
                return latest
            if self._refreshing is None:
                self._refreshing = threading.Event()
                threading.Thread(
                    target=self._refresh, args=(self._refreshing,), daemon=True
                ).start()
            refreshing = self._refreshing
        if wait_s is None:
            is_awaited = latest is None or latest.took_s < self._cheap_s
            wait_s = self._first_wait_s if is_awaited else self._wait_s
        refreshing.wait(wait_s)
        return self._find_usable()

    def get_current(self) -> Snapshot[T]:
        """The same.

        Raises:
            TransientError: there are none, and none were made in time.
            PalimpsestError: there are none, for another reason.
        """
        snapshot = self.find_current()
        if snapshot is None:
            raise self._error or TransientError(
                f"{self._name} could not be read in time; see the gateway log"
            )
        return snapshot

    def _find_usable(self) -> Snapshot[T] | None:
        latest = self._latest
        return latest if latest is not None and latest.age_s <= self._max_age_s else None

    def _get_interval(self, latest: Snapshot[T]) -> float:
        if latest.took_s < self._cheap_s:
            return 0.0
        return max(self._interval_s, latest.took_s / self._max_share)

    def _refresh(self, done: threading.Event) -> None:
        started_at = time.monotonic()
        error: PalimpsestError | None = None
        try:
            value = self._read()
            self._latest = Snapshot(value, started_at, time.monotonic() - started_at)
        except PalimpsestError as failure:
            error = failure
            log.warning("figures could not be read", figures=self._name, error=str(error))
        except Exception as defect:
            log.exception(
                "figures could not be read", figures=self._name, error=type(defect).__name__
            )
        finally:
            with self._lock:
                self._refreshing, self._error = None, error
            done.set()


class SnapshotCaches(Generic[K, T]):
    """A cache for each key; of the `MAX_KEYS` that were asked for last. Safe for many threads."""

    MAX_KEYS = 256

    def __init__(self, make: Callable[[K], SnapshotCache[T]]) -> None:
        self._make = make
        self._caches: OrderedDict[K, SnapshotCache[T]] = OrderedDict()
        self._lock = threading.Lock()

    def get_current(self, key: K) -> Snapshot[T]:
        """See `SnapshotCache.get_current`."""
        with self._lock:
            cache = self._caches.get(key) or self._make(key)
            self._caches[key] = cache
            self._caches.move_to_end(key)
            if len(self._caches) > self.MAX_KEYS:
                self._caches.popitem(last=False)
        return cache.get_current()
