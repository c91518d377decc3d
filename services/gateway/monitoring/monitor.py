"""The answer to a scrape."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from prometheus_client.core import CollectorRegistry, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from services.gateway.monitoring.families import Figures, make_families
from services.gateway.monitoring.request_counts import RequestCounts
from services.gateway.snapshot_cache import SnapshotCache
from shared.config import Settings
from shared.jobs.database import Database
from shared.jobs.monitoring import StoreFigures, read_inventory, read_store_figures

INVENTORY_INTERVAL_S = 60.0
MAX_INVENTORY_SHARE = 0.01  # of a thread's time: reading it takes longer the more there is
INVENTORY_WAIT_S = 0.1  # of a scrape, once it has the other figures


class Monitor:
    """One for each process of the gateway."""

    def __init__(self, db: Database, settings: Settings) -> None:
        self._db = db
        self.request_counts = RequestCounts(db)
        self._store_cache = SnapshotCache(
            "the metrics", self._read_store, settings.metrics_interval_s
        )
        self._inventory_cache = SnapshotCache(
            "the inventory",
            lambda: read_inventory(db),
            INVENTORY_INTERVAL_S,
            max_share=MAX_INVENTORY_SHARE,
        )
        self._folders = _list_local_folders(db, settings)

    def render(self, accept: str) -> tuple[bytes, str]:
        """The metrics in the format that the client prefers, and its media type.

        Raises:
            TransientError: the job store has not answered since this process started.
        """
        self._inventory_cache.find_current(wait_s=0.0)  # is read meanwhile
        store = self._store_cache.get_current()
        inventory = self._inventory_cache.find_current(INVENTORY_WAIT_S)
        figures = Figures(
            store=store.value,
            store_age_s=store.age_s,
            store_took_s=store.took_s,
            inventory=None if inventory is None else inventory.value,
            inventory_age_s=0.0 if inventory is None else inventory.age_s,
            disks=_read_disks(self._folders),
        )
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_FiguresCollector(figures))
        encode, media_type = choose_encoder(accept)
        return encode(registry), media_type

    def _read_store(self) -> StoreFigures:
        self.request_counts.flush()
        return read_store_figures(self._db)


class _FiguresCollector(Collector):
    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        return make_families(self._figures)


def _list_local_folders(db: Database, settings: Settings) -> dict[str, Path]:
    folders = {}
    if settings.artifacts_url.startswith("file://"):
        folders["artifacts"] = Path(settings.artifacts_url.removeprefix("file://"))
    if db.file is not None:
        folders["jobs"] = db.file.parent
    return folders


def _read_disks(folders: dict[str, Path]) -> dict[str, tuple[int, int]]:
    disks = {}
    for name, folder in folders.items():
        with suppress(OSError):
            usage = shutil.disk_usage(folder)
            disks[name] = (usage.free, usage.total)
    return disks
