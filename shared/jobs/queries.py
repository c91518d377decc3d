"""Lookups and lists of jobs, audits, events and artifacts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, func, select

from shared.errors import NotFound
from shared.jobs.database import Database
from shared.jobs.mapping import build_event, build_ownership_filter, load_job, load_jobs
from shared.jobs.paging import Page, apply_page, split_page
from shared.jobs.records import Artifact, Audit, Event, Job
from shared.jobs.tables import artifacts, audit_jobs, audits, events, job_artifacts, jobs


def get_job(db: Database, tenant: str, job_id: str) -> Job:
    """One job. Raises NotFound: no such job of this tenant."""
    with db.read() as connection:
        return load_job(connection, job_id, tenant)


def list_jobs(
    db: Database,
    tenant: str,
    *,
    filters: Mapping[str, str] | None = None,
    audit: str | None = None,
    limit: int = 50,
    page: str | None = None,
) -> Page[Job]:
    """Jobs of a tenant, newest first.

    Args:
        filters: any of `stage`, `method`, `state`.
        audit: only that audit's jobs.
    """
    query = select(jobs).where(jobs.c.tenant == tenant)
    for name, value in (filters or {}).items():
        query = query.where(jobs.c[name] == value)
    if audit is not None:
        query = query.where(
            jobs.c.id.in_(select(audit_jobs.c.job).where(audit_jobs.c.audit == audit))
        )
    with db.read() as connection:
        rows, token = split_page(
            connection.execute(apply_page(query, jobs.c.created_at, jobs.c.id, page, limit)).all(),
            limit,
        )
        return Page(load_jobs(connection, rows), token)


def get_audit(db: Database, tenant: str, audit_id: str) -> Audit:
    """One audit with the counts of its jobs' states. Raises NotFound."""
    with db.read() as connection:
        row = connection.execute(
            select(audits).where(audits.c.id == audit_id, audits.c.tenant == tenant)
        ).one_or_none()
        if row is None:
            raise NotFound(f"there is no audit {audit_id}")
        return _build_audit(connection, row)


def list_audits(
    db: Database, tenant: str, *, limit: int = 50, page: str | None = None
) -> Page[Audit]:
    """Audits of a tenant, newest first."""
    query = select(audits).where(audits.c.tenant == tenant)
    with db.read() as connection:
        rows, token = split_page(
            connection.execute(
                apply_page(query, audits.c.created_at, audits.c.id, page, limit)
            ).all(),
            limit,
        )
        return Page([_build_audit(connection, r) for r in rows], token)


def find_first_audit(db: Database, job_id: str) -> str | None:
    """The audit that was the first to need a job; None if it was posted by hand."""
    query = (
        select(audits.c.id)
        .join(audit_jobs, audit_jobs.c.audit == audits.c.id)
        .where(audit_jobs.c.job == job_id)
        .order_by(audits.c.created_at, audits.c.id)
        .limit(1)
    )
    with db.read() as connection:
        return connection.execute(query).scalar_one_or_none()


def find_log_fields(db: Database, job_ids: Sequence[str]) -> list[dict[str, str]]:
    """What lines that are logged about these jobs name: job, stage, tenant, and one of its audits
    if it has one."""
    if not job_ids:
        return []
    linked = (audit_jobs.c.job == jobs.c.id) & ~audit_jobs.c.detached
    audit = select(func.min(audit_jobs.c.audit)).where(linked).scalar_subquery().label("audit")
    query = select(jobs.c.id.label("job"), jobs.c.stage, jobs.c.tenant, audit)
    with db.read() as connection:
        rows = connection.execute(query.where(jobs.c.id.in_(job_ids)).order_by(jobs.c.id))
        return [
            {name: value for name, value in row._mapping.items() if value is not None}
            for row in rows
        ]


def list_events(
    db: Database, tenant: str, job_id: str, after_seq: int, limit: int = 200
) -> tuple[Job, list[Event]]:
    """The job as it is, and its events from `seq` + 1 on. Raises NotFound."""
    with db.read() as connection:
        job = load_job(connection, job_id, tenant)
        query = (
            select(events)
            .where(events.c.job == job_id, events.c.seq > after_seq)
            .order_by(events.c.seq)
            .limit(limit)
        )
        return job, [build_event(r) for r in connection.execute(query)]


def get_artifact(db: Database, tenant: str, sha256: str) -> Artifact:
    """An artifact of the tenant, in a role that some job made it in, or none ("") if no job did.
    Raises NotFound."""
    links = (job_artifacts.c.tenant == artifacts.c.tenant) & (
        job_artifacts.c.sha256 == artifacts.c.sha256
    )
    role = (
        select(job_artifacts.c.role)
        .where(links)
        .order_by(job_artifacts.c.job)
        .limit(1)
        .scalar_subquery()
    )
    query = select(artifacts, role.label("role")).where(
        build_ownership_filter(tenant, db.now), artifacts.c.sha256 == sha256
    )
    with db.read() as connection:
        row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound(f"there is no artifact {sha256}")
    return Artifact(row.role or "", row.sha256, row.size, row.media_type)


def count_audit_jobs_by_stage(
    db: Database, tenant: str, audit_id: str
) -> dict[str, dict[str, int]]:
    """How many of an audit's jobs are in each state, by stage; empty for another tenant's."""
    joined = select(jobs.c.stage, jobs.c.state, func.count()).join(
        audit_jobs, audit_jobs.c.job == jobs.c.id
    )
    mine = (audit_jobs.c.audit == audit_id) & (jobs.c.tenant == tenant)
    query = joined.where(mine).group_by(jobs.c.stage, jobs.c.state)
    counts: dict[str, dict[str, int]] = {}
    with db.read() as connection:
        for stage, state, n in connection.execute(query):
            counts.setdefault(stage, {})[state] = n
    return counts


def find_live_duplicates(
    db: Database, tenant: str, request_keys: Sequence[str]
) -> dict[str, tuple[str, str]]:
    """By request key, id and state of the job that an equal submission would share."""
    duplicates: dict[str, tuple[str, str]] = {}
    with db.read() as connection:
        # databases bound how many values a statement takes
        for start in range(0, len(request_keys), 500):
            in_batch = jobs.c.dedup_key.in_(request_keys[start : start + 500])
            query = select(jobs.c.dedup_key, jobs.c.id, jobs.c.state).where(
                jobs.c.tenant == tenant, in_batch
            )
            duplicates |= {key: (job, state) for key, job, state in connection.execute(query)}
    return duplicates


def _build_audit(connection: Any, row: Row[Any]) -> Audit:
    joined = select(jobs.c.state, func.count()).join(audit_jobs, audit_jobs.c.job == jobs.c.id)
    counts = connection.execute(joined.where(audit_jobs.c.audit == row.id).group_by(jobs.c.state))
    return Audit(
        id=row.id,
        tenant=row.tenant,
        name=row.name,
        spec=json.loads(row.spec),
        created_at=row.created_at,
        cancelled_at=row.cancelled_at,
        counts={row[0]: row[1] for row in counts},
    )
