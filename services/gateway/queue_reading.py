"""The queues of the stages, as who asks may see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.gateway.deps import current_gateway
from services.gateway.principal import current_principal
from services.gateway.queue_counts import Counts
from services.gateway.snapshot_cache import Snapshot
from shared.jobs import monitoring, stage_pauses, worker_registry
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
    return stage in _read_sources().stages


def read_queue(stage: str) -> StageQueue:
    """The queue of one stage; empty if nothing is known of it. Raises TransientError."""
    return _build_queue(_read_sources(), stage, _read_progress([stage])[stage])


def read_queues() -> tuple[dict[str, StageQueue], float]:
    """The queue of each stage that is published, has jobs or workers, or is paused, by name; and how
    many seconds old the counts are.

    Raises:
        TransientError: the job store does not answer.
    """
    sources = _read_sources()
    progress = _read_progress(sources.stages)
    queues = {stage: _build_queue(sources, stage, progress[stage]) for stage in sources.stages}
    return queues, sources.counts.age_s


@dataclass(frozen=True)
class _Sources:
    """What says which stages there are, by stage."""

    counts: Snapshot[Counts]
    workers: Mapping[str, int]
    paused: Mapping[str, float]
    stages: list[str]


def _read_sources() -> _Sources:
    gateway = current_gateway()
    counts = gateway.queue_counts.current(choose_tenant())
    workers = worker_registry.count_live_by_stage(gateway.deps.db)
    paused = stage_pauses.list_paused_stages(gateway.deps.db)
    published = gateway.catalog_cache.catalog.list_names("stage")
    return _Sources(counts, workers, paused, sorted({*published, *counts.value, *workers, *paused}))


def _read_progress(stages: Sequence[str]) -> Mapping[str, StageProgress]:
    db, tenant = current_gateway().deps.db, choose_tenant()
    if tenant is None:
        return monitoring.read_progress(db, stages)
    return monitoring.read_tenant_progress(db, tenant, stages)


def _build_queue(sources: _Sources, stage: str, progress: StageProgress) -> StageQueue:
    return StageQueue(
        stage,
        sources.counts.value.get(stage, {}),
        sources.workers.get(stage, 0),
        progress,
        sources.paused.get(stage),
    )
