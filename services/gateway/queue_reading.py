"""The queues of the stages, as who asks may see them."""

from __future__ import annotations

from dataclasses import dataclass

from services.gateway.deps import current_gateway
from services.gateway.principal import current_principal
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


def read_queues() -> tuple[dict[str, StageQueue], float]:
    """The queue of each stage that is published, has jobs or workers, or is paused, by name; and how
    many seconds old the counts are.

    Raises:
        TransientError: the job store does not answer.
    """
    db, tenant = current_gateway().deps.db, choose_tenant()
    snapshot = current_gateway().queue_counts.current(tenant)
    live_workers = worker_registry.count_live_by_stage(db)
    paused = stage_pauses.list_paused_stages(db)
    published = current_gateway().catalog_cache.catalog.list_names("stage")
    stages = sorted({*published, *snapshot.counts, *live_workers, *paused})
    progress = (
        monitoring.read_progress(db, stages)
        if tenant is None
        else monitoring.read_tenant_progress(db, tenant, stages)
    )
    queues = {
        stage: StageQueue(
            stage,
            snapshot.counts.get(stage, {}),
            live_workers.get(stage, 0),
            progress[stage],
            paused.get(stage),
        )
        for stage in stages
    }
    return queues, snapshot.age_s
