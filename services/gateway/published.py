"""The catalog that workers published, kept in memory until another one is."""

from __future__ import annotations

import threading

from shared.catalog import Catalog
from shared.jobs import fleet
from shared.jobs.database import Database


class PublishedCatalog:
    """One small query a request says whether the copy in memory is still the published one."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._lock = threading.Lock()  # a new catalog is read and checked by one request, for which the others wait
        self._latest: str | None = None  # may be one that is refused, and another one held
        self._held: tuple[str | None, Catalog] = (None, Catalog([]))

    def current(self) -> tuple[str | None, Catalog]:
        """Digest and catalog; (None, empty) before any worker has started."""
        latest = fleet.latest_digest(self._db)
        with self._lock:
            if latest != self._latest:
                self._held = fleet.published(self._db)
                self._latest = latest
            return self._held

    @property
    def catalog(self) -> Catalog:
        return self.current()[1]
