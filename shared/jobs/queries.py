"""Lookups and lists of jobs, audits, events and artifacts."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, case, func, select

from shared.errors import Gone, NotFound
from shared.jobs.database import Database
from shared.jobs.filters import ALL_AUDITS, ALL_JOBS, AuditFilter, JobFilter
from shared.jobs.labels import AUDIT_LABELS
from shared.jobs.mapping import build_event, build_ownership_filter, load_job, load_jobs
from shared.jobs.paging import (
    MAX_PAGE_CHARS,
    Page,
    apply_page,
    load_page,
    make_page_token,
    split_page,
)
from shared.jobs.records import Artifact, Audit, Event, Job
from shared.jobs.summaries import REPORT_STAGE, decode_summary, read_verdict
from shared.jobs.tables import artifacts, audit_jobs, audits, events, job_artifacts, jobs

MAX_AUDITS_COUNTED = 20  # audits whose jobs are counted in one statement
MAX_ARTIFACTS_FOUND = 500  # in one statement
MAX_JOBS_COUNTED = 50_000  # jobs after which a list that looks through audits ends its page


def get_job(db: Database, tenant: str, job_id: str) -> Job:
    """One job. Raises NotFound: no such job of this tenant."""
    with db.read() as connection:
        return load_job(connection, job_id, tenant)


def list_jobs(
    db: Database,
    tenant: str,
    *,
    filters: JobFilter = ALL_JOBS,
    limit: int = 50,
    page: str | None = None,
) -> Page[Job]:
    """Jobs of a tenant, newest first. A page of large ones ends early (`load_page`)."""
    # ids first: what has to be sorted is found in indexes alone, as far as they go
    query = select(jobs.c.id, jobs.c.created_at).where(*filters.build_conditions(tenant))
    with db.read() as connection:
        ordered = apply_page(query, jobs.c.created_at, jobs.c.id, page, limit)
        keys, token = split_page(connection.execute(ordered).all(), limit)
        rows, token = load_page(connection, jobs, func.length(jobs.c.params), keys, token)
        return Page(load_jobs(connection, rows), token)


def get_audit(db: Database, tenant: str, audit_id: str) -> Audit:
    """One audit with the counts of its jobs' states. Raises NotFound."""
    with db.read() as connection:
        row = connection.execute(
            select(audits).where(
                audits.c.id == audit_id, audits.c.tenant == tenant, ~audits.c.deleting
            )
        ).one_or_none()
        if row is None:
            raise NotFound(f"there is no audit {audit_id}")
        return load_audits(connection, [row])[0]


def list_audits(
    db: Database,
    tenant: str,
    *,
    filters: AuditFilter = ALL_AUDITS,
    limit: int = 50,
    page: str | None = None,
) -> Page[Audit]:
    """Audits of a tenant, newest first.

    Which state an audit is in its jobs say, so with a filter by `state` or `finished_after` audits
    are looked through. One call looks through so many jobs at most that it takes about a second:
    its page may have fewer than `limit` audits, or none, and still have a next one. So may a page of
    large ones (`load_page`).
    """
    query = select(audits.c.id, audits.c.created_at).where(*filters.build_conditions(tenant))
    text_size = func.length(audits.c.spec) + func.length(audits.c.metadata)
    size = MAX_AUDITS_COUNTED if filters.needs_jobs else limit
    audits_met: list[Audit] = []
    counted_jobs = met_chars = 0
    with db.read() as connection:
        while True:
            ordered = apply_page(query, audits.c.created_at, audits.c.id, page, size)
            keys, page = split_page(connection.execute(ordered).all(), size)
            rows, page = load_page(connection, audits, text_size, keys, page)
            for n, audit in enumerate(load_audits(connection, rows), start=1):
                counted_jobs += sum(audit.counts.values())
                if filters.is_met(audit):
                    audits_met.append(audit)
                    met_chars += len(rows[n - 1].spec) + len(rows[n - 1].metadata)
                    if len(audits_met) == limit and n < len(rows):
                        return Page(audits_met, make_page_token(rows[n - 1]))
            enough = len(audits_met) == limit or counted_jobs > MAX_JOBS_COUNTED
            enough |= met_chars >= MAX_PAGE_CHARS
            if page is None or enough or not filters.needs_jobs:
                return Page(audits_met, page)


def find_first_audit(db: Database, job_id: str) -> str | None:
    """The audit that was the first to need a job; None if it was posted by hand."""
    query = (
        select(audits.c.id)
        .join(audit_jobs, audit_jobs.c.audit == audits.c.id)
        .where(audit_jobs.c.job == job_id, ~audits.c.deleting)
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


def list_last_events(db: Database, tenant: str, job_id: str, limit: int) -> tuple[Job, list[Event]]:
    """The job as it is, and its last events, the oldest of them first. Raises NotFound."""
    with db.read() as connection:
        job = load_job(connection, job_id, tenant)
        query = (
            select(events).where(events.c.job == job_id).order_by(events.c.seq.desc()).limit(limit)
        )
        return job, [build_event(r) for r in connection.execute(query)][::-1]


def get_artifact(db: Database, tenant: str, sha256: str) -> Artifact:
    """An artifact of the tenant, in a role that some job made it in, or none ("") if no job did.
    Raises:
        NotFound: the tenant has no such artifact.
        Gone: its job has made it, and it has expired since.
    """
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
            _refuse_expired(connection, tenant, sha256)
            raise NotFound(f"there is no artifact {sha256}")
    return Artifact(row.role or "", row.sha256, row.size, row.media_type)


def find_artifacts(db: Database, tenant: str, digests: Collection[str]) -> dict[str, Artifact]:
    """Those of these artifacts that the tenant has, by sha256, in one query; without their roles.

    Args:
        digests: at most `MAX_ARTIFACTS_FOUND`.
    """
    if len(digests) > MAX_ARTIFACTS_FOUND:
        raise ValueError(f"{len(digests)} artifacts are looked up at once")
    query = select(artifacts).where(
        build_ownership_filter(tenant, db.now), artifacts.c.sha256.in_(sorted(digests))
    )
    with db.read() as connection:
        rows = connection.execute(query).all()
    return {row.sha256: Artifact("", row.sha256, row.size, row.media_type) for row in rows}


def find_audit_names(db: Database, tenant: str, audit_ids: Collection[str]) -> dict[str, str]:
    """What those of these audits are called that the tenant has, by id, in one query."""
    query = select(audits.c.id, audits.c.name).where(
        audits.c.tenant == tenant, audits.c.id.in_(sorted(audit_ids))
    )
    with db.read() as connection:
        return {row.id: row.name for row in connection.execute(query)}


def _refuse_expired(connection: Connection, tenant: str, sha256: str) -> None:
    query = select(artifacts.c.expired_at).where(
        artifacts.c.tenant == tenant,
        artifacts.c.sha256 == sha256,
        artifacts.c.expired_at.is_not(None),
    )
    expired_at = connection.execute(query).scalar_one_or_none()
    if expired_at is not None:
        on = datetime.fromtimestamp(expired_at, UTC).strftime("%Y-%m-%d")
        raise Gone(
            f"artifact {sha256} expired on {on}: this service keeps such artifacts for a limited "
            "time only; to make it again, submit its job again with no_cache"
        )


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


def load_audits(connection: Connection, rows: Sequence[Row[Any]]) -> list[Audit]:
    """Complete records, with labels, verdicts and the counts of their jobs, in the order of
    `rows`."""
    ids = [row.id for row in rows]
    labels = AUDIT_LABELS.load(connection, ids)
    counts: dict[str, dict[str, int]] = {one: {} for one in ids}
    ends: dict[str, float] = dict.fromkeys(ids, 0.0)
    verdicts: dict[str, Mapping[str, str] | None] = {}
    of_report = case((jobs.c.stage == REPORT_STAGE, jobs.c.summary))
    joined = select(
        audit_jobs.c.audit,
        jobs.c.state,
        func.count(),
        func.max(jobs.c.finished_at),
        func.max(of_report),
    ).join(jobs, audit_jobs.c.job == jobs.c.id)
    grouped = joined.where(audit_jobs.c.audit.in_(ids)).group_by(audit_jobs.c.audit, jobs.c.state)
    for audit, state, n, finished_at, summary in connection.execute(grouped):
        counts[audit][state] = n
        ends[audit] = max(ends[audit], finished_at or 0.0)
        if summary is not None:
            verdicts[audit] = read_verdict(decode_summary(summary))
    return [
        Audit(
            id=row.id,
            tenant=row.tenant,
            name=row.name,
            spec=json.loads(row.spec),
            created_at=row.created_at,
            cancelled_at=row.cancelled_at,
            counts=counts[row.id],
            labels=labels[row.id],
            metadata=json.loads(row.metadata),
            last_job_finished_at=ends[row.id] or None,
            verdict=verdicts.get(row.id),
        )
        for row in rows
    ]
