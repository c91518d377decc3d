"""Rows of the schema <-> the frozen records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, and_, exists, or_, select

from shared.errors import NotFound
from shared.jobs import tables
from shared.jobs.records import Artifact, Event, Input, Job, JobCost, Preview
from shared.jobs.states import State
from shared.jobs.summaries import decode_summary
from shared.jobs.tables import UPLOAD_ORIGIN, audit_jobs, job_artifacts, job_inputs, jobs

T = TypeVar("T")
VALUES = 500  # values in one IN (...): databases bound them


def slices(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """The items in their order, as many at a time as one statement may name."""
    for start in range(0, len(items), VALUES):
        yield items[start : start + VALUES]


def to_json(value: Any) -> str:
    """Canonical JSON: equal values, equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def load_jobs(connection: Connection, rows: Sequence[Row[Any]]) -> list[Job]:
    """Complete records, with inputs, artifacts, audits and previews, in the order of `rows`."""
    ids = [r.id for r in rows]
    inputs: dict[str, list[Input]] = {i: [] for i in ids}
    artifacts: dict[str, list[Artifact]] = {i: [] for i in ids}
    audits: dict[str, list[str]] = {i: [] for i in ids}
    for r in connection.execute(
        select(job_inputs).where(job_inputs.c.job.in_(ids)).order_by(job_inputs.c.role)
    ):
        inputs[r.job].append(Input(r.role, r.parent, r.parent_role, r.sha256))
    produced = select(job_artifacts.c.job, job_artifacts.c.role, tables.artifacts).join(
        tables.artifacts
    )
    for r in connection.execute(
        produced.where(job_artifacts.c.job.in_(ids)).order_by(job_artifacts.c.role)
    ):
        artifacts[r.job].append(Artifact(r.role, r.sha256, r.size, r.media_type, r.expired_at))
    for r in connection.execute(
        select(audit_jobs).where(
            audit_jobs.c.job.in_(ids), ~audit_jobs.c.detached, ~is_deleting(audit_jobs.c.audit)
        )
    ):
        audits[r.job].append(r.audit)
    its = tables.previews.c
    drawn = select(its.job, its.step, its.total, its.made_at).where(its.job.in_(ids))
    previews = {r.job: Preview(r.step, r.total, r.made_at) for r in connection.execute(drawn)}
    return [
        build_job(r, inputs[r.id], artifacts[r.id], audits[r.id], previews.get(r.id)) for r in rows
    ]


def load_job(connection: Connection, job_id: str, tenant: str | None = None) -> Job:
    """One complete record.

    Raises:
        NotFound: no such job, or not this tenant's.
    """
    query = select(jobs).where(jobs.c.id == job_id)
    if tenant is not None:
        query = query.where(jobs.c.tenant == tenant)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound(f"there is no job {job_id}")
    return load_jobs(connection, [row])[0]


def build_job(
    r: Row[Any],
    inputs: Iterable[Input] = (),
    artifacts: Iterable[Artifact] = (),
    audits: Iterable[str] = (),
    preview: Preview | None = None,
) -> Job:
    """The record of one row of `jobs`, with what stands in other tables."""
    return Job(
        id=r.id,
        tenant=r.tenant,
        stage=r.stage,
        method=r.method,
        params=json.loads(r.params),
        seed=r.seed,
        inputs=tuple(inputs),
        produces=tuple(json.loads(r.produces)),
        state=State(r.state),
        priority=r.priority,
        request_key=r.request_key,
        cache_key=r.cache_key,
        data_digests=json.loads(r.data),
        code=r.code,
        no_cache=bool(r.no_cache),
        fence=r.fence,
        attempt=r.attempt,
        lost_count=r.lost_count,
        lease_until=r.lease_until,
        worker=r.worker,
        stop=r.stop,
        checkpoint=r.checkpoint,
        progress=json.loads(r.progress),
        failure=r.failure,
        message=r.message,
        reused_from=r.reused_from,
        time_limit=r.time_limit,
        created_at=r.created_at,
        queued_at=r.queued_at,
        started_at=r.started_at,
        finished_at=r.finished_at,
        version=r.version,
        cost=None
        if r.run_s is None
        else JobCost(r.run_s, r.cpu_s, r.memory_bytes, r.device_memory_bytes),
        artifacts=tuple(artifacts),
        audits=tuple(sorted(audits)),
        summary=decode_summary(r.summary),
        preview=preview,
    )


def build_ownership_filter(tenant: str, now: Any) -> ColumnElement[bool]:
    """Selects the rows of `artifacts` that the tenant has at that time: a job produced them, or
    they are an upload that has not expired. What jobs have made may have expired too."""
    its = tables.artifacts.c
    produced = exists().where(
        job_artifacts.c.tenant == its.tenant, job_artifacts.c.sha256 == its.sha256
    )
    uploaded = and_(
        its.origin == UPLOAD_ORIGIN, or_(its.expires_at.is_(None), its.expires_at > now)
    )
    return and_(its.tenant == tenant, its.expired_at.is_(None), or_(produced, uploaded))


def is_deleting(audit_id: Any) -> ColumnElement[bool]:
    """Whether an audit is being deleted: nobody sees it any more."""
    hidden: ColumnElement[bool] = audit_id.in_(select(tables.audits.c.id).where(tables.IS_DELETING))
    return hidden


def build_event(r: Row[Any]) -> Event:
    """One event."""
    return Event(r.job, r.seq, r.at, r.kind, json.loads(r.data))
