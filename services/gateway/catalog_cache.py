"""The catalog that workers have published, cached until there is a newer one."""

from __future__ import annotations

import threading

from shared.catalog import Catalog
from shared.jobs import worker_registry
from shared.jobs.database import Database


class CatalogCache:
    """One small query per request checks whether the cached catalog is still the latest."""

    def __init__(self, db: Database) -> None:
        self._db = db
        # one request loads and validates a new catalog, the others wait for it
        self._lock = threading.Lock()
        # not that of `_cached` if the latest catalog was refused
        self._latest_digest: str | None = None
        self._cached: tuple[str | None, Catalog] = (None, Catalog([]))

    def current(self) -> tuple[str | None, Catalog]:
        """Digest and catalog; (None, empty) before any worker has started."""
        latest = worker_registry.get_catalog_digest(self._db)
        with self._lock:
            if latest != self._latest_digest:
                self._cached = worker_registry.load_latest_catalog(self._db)
                self._latest_digest = latest
            return self._cached

    @property
    def catalog(self) -> Catalog:
        return self.current()[1]
