"""Jobs come in: one transaction holds idempotency key, audit, new jobs and links to equal live ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from shared.errors import Conflict, InvalidRequest
from shared.failpoints import failpoint
from shared.jobs.database import Database
from shared.jobs.inserting import insert_rows
from shared.jobs.records import PlannedJob, Submitted
from shared.jobs.rows import to_json
from shared.jobs.states import State
from shared.jobs.storing import Draft, Overtaken, new_id, store
from shared.jobs.tables import audit_jobs, audits, idempotency, job_inputs, jobs

MANY = 1000  # jobs at once: as many as it takes until a wrong count of them costs seconds
RACES = 10  # times that a submission may be overtaken by an equal one


@dataclass(frozen=True)
class Posted:
    """An Idempotency-Key and the sha256 of the body that came with it."""

    key: str
    body: str


@dataclass(frozen=True)
class AuditRequest:
    """What to store of an audit besides its jobs."""

    name: str
    spec: Mapping[str, Any]


def submit(
    db: Database,
    tenant: str,
    planned: Sequence[PlannedJob],
    *,
    audit: AuditRequest | None = None,
    posted: Posted | None = None,
    priority: int = 0,
    time_limit: float | None = None,
) -> Submitted:
    """Store what was planned. `planned` is in an order in which parents come before children.

    A planned job whose equal is live, or has succeeded, is not stored again: the equal one is linked.
    Without an audit the jobs are marked as posted by hand.

    Raises:
        Conflict: an input job has failed or was cancelled, an equal job ended again and again while this came in,
            or a request with the same Idempotency-Key is under way.
        InvalidRequest: the Idempotency-Key was used with another body, or an input artifact is unknown.
    """
    # Everything that needs no look at the store is made before the transaction: on SQLite it keeps all others out.
    drafts = {
        job.plan_key: Draft.of(tenant, job, direct=audit is None, priority=priority, time_limit=time_limit)
        for job in planned
    }

    def work(connection: Connection) -> Submitted:
        if posted is not None:
            earlier = _replay(db, connection, tenant, posted)
            if earlier is not None:
                return earlier
        now = float(connection.execute(select(db.now)).scalar_one())
        audit_id = None if audit is None else new_id("aud")
        if audit is not None:
            row = {"id": audit_id, "tenant": tenant, "name": audit.name, "spec": to_json(audit.spec)}
            connection.execute(insert(audits).values(**row, created_at=now))
        ids, stored = store(connection, tenant, drafts, now)
        if audit_id is not None and ids:
            links = [{"audit": audit_id, "job": i, "detached": False} for i in sorted(set(ids.values()))]
            insert_rows(connection, audit_jobs, links)
        new = {job.id: replace(job, audits=(audit_id,)) if audit_id else job for job in stored}
        stages = frozenset(job.stage for job in stored if job.state is State.QUEUED)
        answer = Submitted(audit_id, ids, frozenset(new), stages, new=new)
        if posted is not None:
            text = to_json({"audit": audit_id, "jobs": ids, "created": sorted(new)})
            where = (idempotency.c.tenant == tenant) & (idempotency.c.key == posted.key)
            connection.execute(idempotency.update().where(where).values(answer=text))
        failpoint("gateway.before_commit")
        return answer

    for _ in range(RACES):
        try:
            answer = db.retrying(work)
        except Overtaken:
            continue
        if len(answer.created) >= MANY:
            db.analyze(jobs, job_inputs, audit_jobs)
        return answer
    raise Conflict("equal jobs come in and end at this moment: post it again")


def _replay(db: Database, connection: Connection, tenant: str, posted: Posted) -> Submitted | None:
    """Take the key, or give the answer it got. The row is written in the same transaction as the jobs, so a
    second request with the key waits for the first one's commit and then sees its answer."""
    row = {"tenant": tenant, "key": posted.key, "body": posted.body, "answer": ""}
    take = db.insert(idempotency).values(**row, created_at=db.now).on_conflict_do_nothing()
    if connection.execute(take.returning(idempotency.c.key)).one_or_none() is not None:
        return None
    where = (idempotency.c.tenant == tenant) & (idempotency.c.key == posted.key)
    return _answered(connection.execute(select(idempotency).where(where)).one(), posted)


def _answered(row: Row[Any], posted: Posted) -> Submitted:
    if row.body != posted.body:
        raise InvalidRequest(
            f"Idempotency-Key {posted.key!r} was used with another body: take a new key", "Idempotency-Key"
        )
    answer = json.loads(row.answer)
    return Submitted(answer["audit"], answer["jobs"], frozenset(answer["created"]), frozenset(), replayed=True)


def answered(db: Database, tenant: str, posted: Posted) -> Submitted | None:
    """The answer that this request got before, if it did. Asked before planning: what was accepted once is
    answered again even if the catalog or an input has changed since.

    Raises:
        InvalidRequest: the key was used with another body.
    """
    where = (idempotency.c.tenant == tenant) & (idempotency.c.key == posted.key)
    with db.read() as connection:
        row = connection.execute(select(idempotency).where(where)).one_or_none()
    return None if row is None else _answered(row, posted)
