"""What monitoring asks the job store, in a few statements that walk along indexes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Select, func, select

from shared.jobs import worker_registry
from shared.jobs.database import Database
from shared.jobs.metric_totals import Labels, load_totals
from shared.jobs.outbox_reader import MAX_NAMED_TENANTS, OTHER_TENANTS
from shared.jobs.records import Worker
from shared.jobs.states import LIVE
from shared.jobs.tables import (
    UPLOAD_ORIGIN,
    artifacts,
    jobs,
    outbox,
    service_heartbeats,
    webhook_deliveries,
)

Counts = dict[tuple[str, str], int]


@dataclass(frozen=True)
class StageQueues:
    """The live jobs: counts by stage and state, and for how many seconds the oldest queued job of
    each stage has been queued."""

    counts: Counts = field(default_factory=dict)
    oldest_age_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class StoreFigures:
    """The job store at one moment.

    service_ages_s: seconds since each service that is no worker has done a round.
    totals: see `shared.jobs.metric_totals`.
    """

    queues: StageQueues
    workers: tuple[Worker, ...]
    service_ages_s: Mapping[str, float]
    outbox_size: int
    pending_deliveries: int
    totals: Mapping[str, Mapping[Labels, float]]


@dataclass(frozen=True)
class Inventory:
    """What each tenant has, which takes longer to read the more there is.

    tenant_counts: live jobs by tenant and state: of the tenants with most, the others summed.
    artifacts: number and bytes of artifacts by origin, `job` or `upload`.
    """

    tenant_counts: Counts
    artifacts: Mapping[str, tuple[int, int]]


def read_store_figures(db: Database) -> StoreFigures:
    """Everything but the inventory. Raises TransientError."""
    workers = tuple(worker_registry.list_workers(db))
    with db.read() as connection:
        pending = webhook_deliveries.c.state == "pending"
        return StoreFigures(
            queues=_read_queues(db, connection),
            workers=workers,
            service_ages_s=_read_service_ages(db, connection),
            outbox_size=_count(connection, select(outbox.c.id)),
            pending_deliveries=_count(connection, select(webhook_deliveries.c.id).where(pending)),
            totals=load_totals(connection),
        )


@dataclass(frozen=True)
class StageProgress:
    """How fast a stage's queue gets shorter.

    oldest_age_s: for how long the oldest queued job has been queued; None without one.
    finished: jobs that have ended since counting began; None where only one tenant's are asked for.
    mean_run_s: how long their last attempts took; None before the first, and for one tenant.
    """

    oldest_age_s: float | None = None
    finished: int | None = 0
    mean_run_s: float | None = None


def read_progress(db: Database, stages: Sequence[str]) -> dict[str, StageProgress]:
    """The progress of each of these stages; costs the same with any number of jobs. Raises
    TransientError."""
    progress = {}
    with db.read() as connection:
        totals = load_totals(connection, ("jobs_finished", "job_run_sum", "job_run_bucket"))
        ages = _read_oldest_ages(db, connection, None, stages)
        for stage in stages:
            n_runs = _sum_stage(totals.get("job_run_bucket", {}), stage)
            run_s = _sum_stage(totals.get("job_run_sum", {}), stage)
            progress[stage] = StageProgress(
                oldest_age_s=ages[stage],
                finished=int(_sum_stage(totals.get("jobs_finished", {}), stage)),
                mean_run_s=run_s / n_runs if n_runs else None,
            )
    return progress


def _read_oldest_ages(
    db: Database, connection: Connection, tenant: str | None, stages: Sequence[str]
) -> dict[str, float | None]:
    """By stage, for how many seconds its oldest queued job, of all tenants or one, has been queued;
    None without one."""
    if not stages:
        return {}
    mine = () if tenant is None else (jobs.c.tenant == tenant,)
    # one look-up in the index for each: grouped by stage, it would walk along all queued jobs
    oldest = [
        select(func.min(jobs.c.queued_at))
        .where(*mine, jobs.c.stage == stage, jobs.c.state == "queued")
        .scalar_subquery()
        .label(f"stage_{n}")
        for n, stage in enumerate(stages)
    ]
    now, *times = connection.execute(select(db.now, *oldest)).one()
    return {
        stage: None if at is None else max(0.0, float(now) - at)
        for stage, at in zip(stages, times, strict=True)
    }


def read_tenant_progress(
    db: Database, tenant: str, stages: Sequence[str]
) -> dict[str, StageProgress]:
    """As much of `read_progress` as a tenant may know: of its own jobs. Raises TransientError."""
    with db.read() as connection:
        ages = _read_oldest_ages(db, connection, tenant, stages)
    return {stage: StageProgress(age_s, None) for stage, age_s in ages.items()}


def _sum_stage(totals: Mapping[Labels, float], stage: str) -> float:
    return sum(value for labels, value in totals.items() if labels[0] == stage)


def count_ended(db: Database, tenant: str | None, within_s: float) -> dict[str, int]:
    """How many jobs have ended in the last `within_s` seconds, by stage; of all tenants or one.
    Raises TransientError."""
    lately = jobs.c.finished_at >= db.now - within_s
    # grouped by an expression, or SQLite would walk along all jobs in the order of their stages
    stage = func.coalesce(jobs.c.stage, "")
    query = select(stage.label("stage_name"), func.count()).where(lately).group_by("stage_name")
    if tenant is not None:
        query = query.where(jobs.c.tenant == tenant)
    with db.read() as connection:
        return {stage: int(n) for stage, n in connection.execute(query)}


def read_service_ages(db: Database) -> dict[str, float]:
    """Seconds since each service that is no worker has done a round. Raises TransientError."""
    with db.read() as connection:
        return _read_service_ages(db, connection)


def read_clock(db: Database) -> float:
    """The database's clock, in seconds since 1970. Raises TransientError."""
    with db.read() as connection:
        return float(connection.execute(select(db.now)).scalar_one())


def _read_service_ages(db: Database, connection: Connection) -> dict[str, float]:
    ages = select(service_heartbeats.c.service, db.now - service_heartbeats.c.seen_at)
    return {service: max(0.0, age) for service, age in connection.execute(ages)}


def read_inventory(db: Database) -> Inventory:
    """Counts all live jobs and all artifacts that have not expired. Raises TransientError."""
    is_upload = artifacts.c.origin == UPLOAD_ORIGIN
    query = select(is_upload, func.count(), func.sum(artifacts.c.size)).group_by(is_upload)
    query = query.where(artifacts.c.expired_at.is_(None))  # of the others the bytes are gone
    sizes = {"job": (0, 0), "upload": (0, 0)}
    with db.read() as connection:
        for upload, n, size in connection.execute(query):
            sizes["upload" if upload else "job"] = (int(n), int(size))
        return Inventory(_sum_small_tenants(_count_by_tenant(connection)), sizes)


def _read_queues(db: Database, connection: Connection) -> StageQueues:
    # By name, so that the index leads to the live jobs past any number of others.
    query = (
        select(jobs.c.stage, jobs.c.state, func.count(), db.now - func.min(jobs.c.queued_at))
        .where(jobs.c.stage.in_(_list_stages(connection)), jobs.c.state.in_(sorted(LIVE)))
        .group_by(jobs.c.stage, jobs.c.state)
    )
    counts: Counts = {}
    oldest_age_s: dict[str, float] = {}
    for stage, state, n, age_s in connection.execute(query):
        counts[stage, state] = int(n)
        if state == "queued" and age_s is not None:
            oldest_age_s[stage] = max(0.0, float(age_s))
    return StageQueues(counts, oldest_age_s)


def _list_stages(connection: Connection) -> list[str]:
    """The stages of all jobs: from each along the index to the next."""
    first = select(func.min(jobs.c.stage).label("stage")).cte("stages", recursive=True)
    following = select(func.min(jobs.c.stage)).where(jobs.c.stage > first.c.stage).scalar_subquery()
    stages = first.union_all(select(following).where(first.c.stage.is_not(None)))
    query = select(stages.c.stage).where(stages.c.stage.is_not(None))
    return list(connection.execute(query).scalars())


def _count_by_tenant(connection: Connection) -> Counts:
    query = (
        select(jobs.c.tenant, jobs.c.state, func.count())
        .where(jobs.c.state.in_(sorted(LIVE)))
        .group_by(jobs.c.tenant, jobs.c.state)
    )
    return {(tenant, state): int(n) for tenant, state, n in connection.execute(query)}


def _sum_small_tenants(counts: Counts) -> Counts:
    of_tenant: Counter[str] = Counter()
    for (tenant, _state), n in counts.items():
        of_tenant[tenant] += n
    largest = {tenant for tenant, _ in of_tenant.most_common(MAX_NAMED_TENANTS)}
    summed: Counter[tuple[str, str]] = Counter()
    for (tenant, state), n in counts.items():
        summed[tenant if tenant in largest else OTHER_TENANTS, state] += n
    return dict(summed)


def _count(connection: Connection, query: Select[Any]) -> int:
    subquery = query.subquery()
    return int(connection.execute(select(func.count()).select_from(subquery)).scalar_one())
