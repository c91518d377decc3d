"""Whether anything has changed since a page was shown: a short text that is another one after every
change of a tenant's jobs, of one audit's, or of the workers."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, select

from shared.jobs import worker_registry
from shared.jobs.database import Database
from shared.jobs.states import State
from shared.jobs.tables import audit_jobs, audits, jobs, paused_stages, workers


class Topic(NamedTuple):
    """What may change.

    tenant: whose jobs; None for those of all tenants.
    audit: only this audit's; "" for all jobs of the tenant, and the workers.
    """

    tenant: str | None
    audit: str = ""


def read_revisions(db: Database, topics: Collection[Topic]) -> Mapping[Topic, str]:
    """The revision of each topic.

    Costs the same with any number of jobs that do not run; of an audit it walks along all its jobs.

    Raises:
        TransientError: the job store does not answer.
    """
    with db.read() as connection:
        fleet = _read_fleet(db, connection) if any(not t.audit for t in topics) else ()
        return {
            topic: _digest(
                _read_audit(connection, topic.audit)
                if topic.audit
                else (*fleet, *_read_jobs(connection, topic.tenant))
            )
            for topic in topics
        }


def _digest(values: Iterable[Any]) -> str:
    return hashlib.sha256(repr(tuple(values)).encode()).hexdigest()[:16]


def _read_audit(connection: Connection, audit: str) -> tuple[Any, ...]:
    """Every change of a job adds one to its version."""
    of_audit = select(func.count(), func.sum(jobs.c.version), func.max(audits.c.cancelled_at))
    query = of_audit.select_from(
        audits.join(audit_jobs, audit_jobs.c.audit == audits.c.id).join(
            jobs, jobs.c.id == audit_jobs.c.job
        )
    ).where(audits.c.id == audit)
    return tuple(connection.execute(query).one())


def _read_jobs(connection: Connection, tenant: str | None) -> tuple[Any, ...]:
    """The changes of running jobs, the last end, and the last beginnings: along indexes."""
    newest_audit = select(func.max(audits.c.created_at))
    queries: list[Any] = [
        select(func.count(), func.sum(jobs.c.version)).where(jobs.c.state == State.RUNNING),
        select(func.max(jobs.c.finished_at)).where(jobs.c.finished_at.is_not(None)),
    ]
    if tenant is not None:
        # of all tenants no index leads to the newest job
        queries = [q.where(jobs.c.tenant == tenant) for q in (*queries, _NEWEST_JOB)]
        newest_audit = newest_audit.where(audits.c.tenant == tenant)
    queries.append(newest_audit)
    return tuple(value for query in queries for value in connection.execute(query).one())


_NEWEST_JOB = select(func.max(jobs.c.created_at))


def _read_fleet(db: Database, connection: Connection) -> tuple[Any, ...]:
    """Which workers there are, alive or not, and what operators have told them."""
    seen = select(workers.c.id, workers.c.drain, worker_registry.is_live(db)).order_by(workers.c.id)
    return (
        *map(tuple, connection.execute(seen)),
        *connection.execute(
            select(paused_stages.c.stage).order_by(paused_stages.c.stage)
        ).scalars(),
    )
