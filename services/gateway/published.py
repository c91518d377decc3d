"""The catalog that workers published, kept in memory until another one is."""

from __future__ import annotations

from shared.catalog import Catalog
from shared.jobs import fleet
from shared.jobs.database import Database


class PublishedCatalog:
    """One small query a request says whether the copy in memory is still the published one."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._held: tuple[str | None, Catalog] | None = None

    def current(self) -> tuple[str | None, Catalog]:
        """Digest and catalog; (None, empty) before any worker has started."""
        held = self._held
        if held is None or held[0] is None or held[0] != fleet.latest_digest(self._db):
            held = self._held = fleet.published(self._db)
        return held

    @property
    def catalog(self) -> Catalog:
        return self.current()[1]
