"""Jobs come in: one transaction holds idempotency key, audit, new jobs and links to equal live ones."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from shared.errors import Conflict, InvalidRequest, NotFound
from shared.failpoints import failpoint
from shared.jobs.database import Database
from shared.jobs.moves import hopeless, lock
from shared.jobs.records import PlannedJob, Submitted
from shared.jobs.rows import to_json
from shared.jobs.states import State
from shared.jobs.tables import (
    audit_jobs,
    audits,
    events,
    idempotency,
    job_artifacts,
    job_inputs,
    job_plugins,
    jobs,
)


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


def new_id(prefix: str) -> str:
    """`job_` or `aud_` and 80 random bits."""
    return f"{prefix}_{secrets.token_hex(10)}"


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
        Conflict: an input job has failed or was cancelled, or a request with the same Idempotency-Key is
            under way.
        InvalidRequest: the Idempotency-Key was used with another body, or an input artifact is unknown.
    """

    def work(connection: Connection) -> Submitted:
        if posted is not None:
            earlier = _replay(db, connection, tenant, posted)
            if earlier is not None:
                return earlier
        audit_id = None
        if audit is not None:
            audit_id = new_id("aud")
            row = {"id": audit_id, "tenant": tenant, "name": audit.name, "spec": to_json(audit.spec)}
            connection.execute(insert(audits).values(**row, created_at=db.now))
        ids: dict[str, str] = {}
        created: set[str] = set()
        stages: set[str] = set()
        for job in planned:
            job_id, state = _store(
                db,
                connection,
                tenant,
                job,
                ids,
                direct=audit is None,
                priority=priority,
                time_limit=time_limit,
            )
            ids[job.plan_key] = job_id
            if state is not None:
                created.add(job_id)
            if state is State.QUEUED:
                stages.add(job.stage)
        if audit_id is not None and ids:
            links = [{"audit": audit_id, "job": i, "detached": False} for i in sorted(set(ids.values()))]
            connection.execute(insert(audit_jobs), links)
        answer = Submitted(audit_id, ids, frozenset(created), frozenset(stages))
        if posted is not None:
            text = to_json({"audit": audit_id, "jobs": ids, "created": sorted(created)})
            where = (idempotency.c.tenant == tenant) & (idempotency.c.key == posted.key)
            connection.execute(idempotency.update().where(where).values(answer=text))
        failpoint("gateway.before_commit")
        return answer

    return db.retrying(work)


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


def _store(
    db: Database, connection: Connection, tenant: str, job: PlannedJob, ids: Mapping[str, str], *,
    direct: bool, priority: int, time_limit: float | None,
) -> tuple[str, State | None]:  # fmt: skip
    """The id under which `job` is stored, and its state if it is new."""
    live_key = None if job.fresh else job.plan_key
    if live_key is not None:
        same = _equal(connection, tenant, live_key)
        if same is not None:
            return _share(connection, same, direct), None
    inputs, state = _resolve(connection, tenant, job, ids)
    job_id = new_id("job")
    values = {
        "id": job_id, "tenant": tenant, "stage": job.stage, "method": job.method, "params": to_json(job.params),
        "seed": job.seed, "produces": to_json(list(job.produces)), "state": state, "priority": priority,
        "plan_key": job.plan_key, "live_key": live_key, "code": job.code, "fresh": job.fresh, "direct": direct,
        "tolerant": job.tolerant,
        "fence": 0, "attempt": 0, "lost_count": 0, "progress": "{}", "time_limit": time_limit, "created_at": db.now,
        "queued_at": db.now if state is State.QUEUED else None, "version": 1, "event_seq": 1,
    }  # fmt: skip
    store = db.insert(jobs).values(**values).on_conflict_do_nothing()
    if connection.execute(store.returning(jobs.c.id)).one_or_none() is None:  # an equal one came since we looked
        same = _equal(connection, tenant, str(live_key))
        if same is None:
            raise Conflict(f"an equal {job.stage} job ended while this one came in: post it again")
        return _share(connection, same, direct), None
    if inputs:
        connection.execute(insert(job_inputs), [{"job": job_id, **i} for i in inputs])
    connection.execute(insert(job_plugins), [{"job": job_id, "plugin": p} for p in job.plugins])
    first = {
        "job": job_id,
        "seq": 1,
        "kind": "state",
        "data": to_json({"from": None, "to": state, "because": "submitted"}),
    }
    connection.execute(insert(events).values(**first, at=db.now))
    return job_id, state


def _equal(connection: Connection, tenant: str, live_key: str) -> Any:
    query = select(jobs).where(jobs.c.tenant == tenant, jobs.c.live_key == live_key).with_for_update()
    return connection.execute(query).one_or_none()


def _share(connection: Connection, row: Any, direct: bool) -> str:
    if direct and not row.direct:
        connection.execute(jobs.update().where(jobs.c.id == row.id).values(direct=True))
    return str(row.id)


def _resolve(
    connection: Connection, tenant: str, job: PlannedJob, ids: Mapping[str, str]
) -> tuple[list[dict[str, Any]], State]:
    """The job's input rows, and whether it is queued or waits. Parents are locked until the commit: one that
    finishes meanwhile then sees this child."""
    rows, state = [], State.QUEUED
    for i in sorted(job.inputs, key=lambda i: (i.parent or "", i.role)):
        parent_id = ids.get(i.parent, i.parent) if i.parent else None
        if parent_id is not None:
            parent = lock(connection, parent_id)
            if parent.tenant != tenant:
                raise NotFound(f"there is no job {parent_id}")
            if why := hopeless(parent):
                raise Conflict(f"input {i.role}: job {parent_id} {why}; retry it first")
            if parent.state != State.SUCCEEDED:
                state = State.WAITING
        else:
            known = select(job_artifacts.c.sha256).where(
                job_artifacts.c.tenant == tenant, job_artifacts.c.sha256 == i.sha256
            )
            if connection.execute(known.limit(1)).one_or_none() is None:
                raise InvalidRequest(f"there is no artifact {i.sha256}", f"inputs.{i.role}")
        rows.append({"role": i.role, "parent": parent_id, "parent_role": i.parent_role or i.role, "sha256": i.sha256})
    return rows, state
