"""The gateway's dependencies, and how routes access them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from flask import current_app, g

from services.gateway.auth import Authenticator
from services.gateway.catalog_cache import CatalogCache
from services.gateway.monitoring.monitor import Monitor
from services.gateway.planning_limiter import READERS, PlanningLimiter
from services.gateway.queue_counts import QueueCounts, make_queue_counts
from services.gateway.quota_cache import QuotaCache
from services.gateway.report_cache import ReportCache
from services.gateway.stream_slots import StreamSlots
from services.gateway.uploads import UploadLimiter
from services.signing import SigningKey
from shared.artifacts import ArtifactStore
from shared.config import Settings
from shared.data_files import DataFile, DataRoot
from shared.errors import InvalidRequest
from shared.jobs.database import Database
from shared.jobs.queue import WakeupSender
from shared.jobs.tenant_store import TenantStore
from shared.uploaded_files import parse_upload

EXTENSION_KEY = "palimpsest"
UPLOAD_KEY = "palimpsest.upload"  # of the WSGI environ: the upload that this request has brought


@dataclass(frozen=True)
class StreamTiming:
    """Intervals of event streams."""

    poll_s: float = 0.5  # between two queries of the job store
    heartbeat_s: float = 10.0  # without events, until a comment is sent
    # so that a client that vanished does not keep its slot
    max_duration_s: float = 120.0


@dataclass(frozen=True)
class GatewayDeps:
    """The job store, the artifacts, the wake-up sender, the settings, and the key that signs
    manifests."""

    db: Database
    artifacts: ArtifactStore
    wakeup_sender: WakeupSender
    settings: Settings
    stream_timing: StreamTiming = field(default_factory=StreamTiming)
    signing_key: SigningKey | None = None


@dataclass(frozen=True)
class Gateway:
    """The dependencies of one app, and its state between requests."""

    deps: GatewayDeps
    authenticator: Authenticator
    catalog_cache: CatalogCache
    stream_slots: StreamSlots
    quotas: QuotaCache
    queue_counts: QueueCounts
    upload_limiter: UploadLimiter
    monitor: Monitor
    report_cache: ReportCache = field(default_factory=ReportCache)
    planning_limiter: PlanningLimiter = field(default_factory=lambda: PlanningLimiter("planning"))
    reading_limiter: PlanningLimiter = field(
        default_factory=lambda: PlanningLimiter("reading data files for", READERS)
    )

    @classmethod
    def from_deps(cls, deps: GatewayDeps) -> Gateway:
        return cls(
            deps,
            Authenticator(deps.db, deps.settings),
            CatalogCache(deps.db),
            StreamSlots(deps.settings.max_event_streams),
            QuotaCache(deps.db),
            make_queue_counts(deps.db),
            UploadLimiter(deps.artifacts, deps.settings),
            Monitor(deps.db, deps.settings),
        )


def current_gateway() -> Gateway:
    """The gateway that serves this request."""
    return cast(Gateway, current_app.extensions[EXTENSION_KEY])


def current_store() -> TenantStore:
    """The job store as the tenant of this request sees it (set by `services.gateway.auth`)."""
    return cast(TenantStore, g.store)


def digest_files(files: Sequence[DataFile], *, require_uploads: bool = True) -> Mapping[str, str]:
    """The digests of files of the data root, by path. Not to be called while planning: it may take
    minutes.

    Args:
        require_uploads: refuse uploads that are not there; a dry run comes before they are sent.

    Raises:
        InvalidRequest: one is missing or cannot be read.
        TransientError: too many other requests wait for their files to be read.
    """
    if not files:
        return {}
    for file in files:
        sha256 = parse_upload(file.path, file.field)
        if sha256 and require_uploads and not current_store().has_artifact(sha256):
            raise InvalidRequest(f"you have no upload {sha256}: push the file first", file.field)
    with current_gateway().reading_limiter.acquire():
        return DataRoot(current_gateway().deps.settings.data_root).identify_files(files)
