"""The queues of the stages, as who asks may see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.gateway.deps import Gateway, current_gateway
from services.gateway.principal import current_principal
from services.gateway.queue_counts import Counts
from shared.jobs import monitoring, stage_pauses, worker_registry
from shared.jobs.database import Database
from shared.jobs.keys import ADMIN
from shared.jobs.monitoring import StageProgress


@dataclass(frozen=True)
class StageQueue:
    """The queue of one stage.

    counts: jobs by state: of the tenant, or of all tenants to who administers.
    workers: live workers that serve it.
    paused_at: since when an operator keeps its jobs from being claimed, in seconds since 1970.
    """

    stage: str
    counts: dict[str, int]
    workers: int
    progress: StageProgress
    paused_at: float | None


def choose_tenant() -> str | None:
    """Whose jobs are shown: everyone's (None) to who administers."""
    principal = current_principal()
    return None if ADMIN in principal.scopes else principal.tenant


def has_stage(stage: str) -> bool:
    """Whether the stage is published, has jobs or workers, or is paused. Raises TransientError."""
    gateway = current_gateway()
    counts = gateway.queue_counts.get_current(choose_tenant())
    return stage in _read_sources(gateway, counts.value).stages


def read_queue(stage: str) -> StageQueue:
    """The queue of one stage; empty if nothing is known of it. Raises TransientError."""
    gateway, tenant = current_gateway(), choose_tenant()
    sources = _read_sources(gateway, gateway.queue_counts.get_current(tenant).value)
    progress = _read_progress(gateway.deps.db, tenant, [stage])
    return _build_queue(sources, stage, progress[stage])


def read_recent_queues() -> tuple[dict[str, StageQueue], float]:
    """As `read_queues`, for this request; with how many seconds old the counts are, where counting
    takes long.

    Raises:
        TransientError: the job store does not answer.
    """
    gateway, tenant = current_gateway(), choose_tenant()
    counts = gateway.queue_counts.get_current(tenant)
    return _build_queues(gateway, tenant, counts.value), counts.age_s


def read_queues(gateway: Gateway, tenant: str | None) -> dict[str, StageQueue]:
    """The queue of each stage that is published, has jobs or workers, or is paused, by name.

    Args:
        tenant: whose jobs are counted; everyone's without.

    Raises:
        TransientError: the job store does not answer.
    """
    counts = worker_registry.count_jobs_by_stage(gateway.deps.db, tenant)
    return _build_queues(gateway, tenant, counts)


def _build_queues(gateway: Gateway, tenant: str | None, counts: Counts) -> dict[str, StageQueue]:
    sources = _read_sources(gateway, counts)
    progress = _read_progress(gateway.deps.db, tenant, sources.stages)
    return {stage: _build_queue(sources, stage, progress[stage]) for stage in sources.stages}


@dataclass(frozen=True)
class _Sources:
    """What says which stages there are, by stage."""

    counts: Counts
    workers: Mapping[str, int]
    paused: Mapping[str, float]
    stages: list[str]


def _read_sources(gateway: Gateway, counts: Counts) -> _Sources:
    workers = worker_registry.count_live_by_stage(gateway.deps.db)
    paused = stage_pauses.list_paused_stages(gateway.deps.db)
    published = gateway.catalog_cache.catalog.list_names("stage")
    return _Sources(counts, workers, paused, sorted({*published, *counts, *workers, *paused}))


def _read_progress(
    db: Database, tenant: str | None, stages: Sequence[str]
) -> Mapping[str, StageProgress]:
    if tenant is None:
        return monitoring.read_progress(db, stages)
    return monitoring.read_tenant_progress(db, tenant, stages)


def _build_queue(sources: _Sources, stage: str, progress: StageProgress) -> StageQueue:
    return StageQueue(
        stage,
        sources.counts.get(stage, {}),
        sources.workers.get(stage, 0),
        progress,
        sources.paused.get(stage),
    )
