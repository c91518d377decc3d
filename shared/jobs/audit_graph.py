"""An audit at a glance: its jobs by stage and method, what each group of them takes its inputs from,
and why jobs of it have failed. A few rows however many jobs there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import func, select

from shared.jobs.database import Database
from shared.jobs.states import Failure, State
from shared.jobs.tables import audit_jobs, job_inputs, jobs

GroupKey = tuple[str, str | None]  # stage and method


@dataclass(frozen=True)
class JobGroup:
    """The jobs of an audit of one stage and method; `counts` says how many are in each state."""

    stage: str
    method: str | None
    counts: Mapping[str, int]

    @property
    def key(self) -> GroupKey:
        return self.stage, self.method


@dataclass(frozen=True)
class AuditGraph:
    """The groups of an audit, and from which to which of them artifacts go."""

    groups: tuple[JobGroup, ...]
    edges: frozenset[tuple[GroupKey, GroupKey]]


@dataclass(frozen=True)
class FailureGroup:
    """Jobs of an audit that have failed alike: same stage, method, failure and message.

    jobs: how many.
    job: one of them.
    """

    stage: str
    method: str | None
    failure: str
    message: str
    jobs: int
    job: str


@dataclass(frozen=True)
class AuditFailures:
    """Why jobs of an audit have failed.

    causes: what most jobs have met comes first; not all if there are very many.
    consequences: how many jobs did not run because one that they need has failed.
    """

    causes: tuple[FailureGroup, ...]
    consequences: int


def read_audit_graph(db: Database, tenant: str, audit_id: str) -> AuditGraph:
    """The graph of an audit; without groups for another tenant's."""
    counts: dict[GroupKey, dict[str, int]] = {}
    of_audit = (audit_jobs.c.audit == audit_id) & (jobs.c.tenant == tenant)
    members = audit_jobs.join(jobs, jobs.c.id == audit_jobs.c.job)
    columns = (jobs.c.stage, jobs.c.method, jobs.c.state)
    grouped = select(*columns, func.count()).select_from(members).where(of_audit).group_by(*columns)
    parents = jobs.alias("parents")
    links = members.join(job_inputs, job_inputs.c.job == jobs.c.id).join(
        parents, parents.c.id == job_inputs.c.parent
    )
    linked = select(parents.c.stage, parents.c.method, jobs.c.stage, jobs.c.method)
    with db.read() as connection:
        for stage, method, state, n in connection.execute(grouped):
            counts.setdefault((stage, method), {})[state] = n
        edges = {
            ((row[0], row[1]), (row[2], row[3]))
            for row in connection.execute(linked.select_from(links).where(of_audit).distinct())
        }
    ordered = sorted(counts, key=lambda key: (key[0], key[1] or ""))
    return AuditGraph(
        tuple(JobGroup(stage, method, counts[stage, method]) for stage, method in ordered),
        frozenset((a, b) for a, b in edges if a != b and a in counts and b in counts),
    )


def read_audit_failures(db: Database, tenant: str, audit_id: str, limit: int) -> AuditFailures:
    """Why jobs of an audit have failed; nothing of another tenant's."""
    columns = (jobs.c.stage, jobs.c.method, jobs.c.failure, jobs.c.message)
    n, is_cause = func.count(), jobs.c.failure != Failure.INPUT_FAILED
    of_audit = (
        audit_jobs.c.audit == audit_id,
        jobs.c.tenant == tenant,
        jobs.c.state == State.FAILED,
    )
    members = audit_jobs.join(jobs, jobs.c.id == audit_jobs.c.job)
    counted = select(n).select_from(members).where(*of_audit, ~is_cause)
    query = (
        select(*columns, n, func.min(jobs.c.id))
        .select_from(members)
        .where(*of_audit, is_cause)
        .group_by(*columns)
        .order_by(n.desc(), jobs.c.stage, func.min(jobs.c.id))
        .limit(limit)
    )
    with db.read() as connection:
        causes = tuple(
            FailureGroup(stage, method, failure or "", message or "", count, job)
            for stage, method, failure, message, count, job in connection.execute(query)
        )
        return AuditFailures(causes, connection.execute(counted).scalar_one())
