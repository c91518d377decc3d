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
from services.gateway.monitoring.snapshot_cache import SnapshotCache
from shared.config import Settings
from shared.jobs.database import Database
from shared.jobs.monitoring import StoreFigures, read_artifact_sizes, read_store_figures

ARTIFACTS_INTERVAL_S = 60.0
MAX_ARTIFACTS_SHARE = 0.01  # of a thread's time: reading them takes longer the more there are


class Monitor:
    """One for each process of the gateway."""

    def __init__(self, db: Database, settings: Settings) -> None:
        self._db = db
        self.request_counts = RequestCounts(db)
        self._store_cache = SnapshotCache(self._read_store, settings.metrics_interval_s)
        self._artifacts_cache = SnapshotCache(
            lambda: read_artifact_sizes(db),
            ARTIFACTS_INTERVAL_S,
            wait_s=0.0,
            first_wait_s=0.2,
            max_share=MAX_ARTIFACTS_SHARE,
        )
        self._folders = _list_local_folders(db, settings)

    def render(self, accept: str) -> tuple[bytes, str]:
        """The metrics in the format that the client prefers, and its media type.

        Raises:
            TransientError: the job store has not answered since this process started.
        """
        artifacts = self._artifacts_cache.find_current()
        store = self._store_cache.get_current()
        figures = Figures(
            store=store.value,
            store_age_s=store.age_s,
            store_took_s=store.took_s,
            artifacts=None if artifacts is None else artifacts.value,
            artifacts_age_s=0.0 if artifacts is None else artifacts.age_s,
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
