"""Priority changed after submission, of one job or of all of an audit that have not ended.

It moves a queued job among those of its tenant (`shared.jobs.ranking`): tenants take turns as
before. A job that waits or is paused gets its place by it later, and one that runs only if it is
queued again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, case, insert, select, update

from shared.errors import Conflict, NotFound
from shared.failpoints import failpoint
from shared.jobs.database import Database
from shared.jobs.mapping import to_json
from shared.jobs.ranking import compute_rank
from shared.jobs.states import LIVE, TERMINAL, State
from shared.jobs.tables import audit_jobs, audits, events, jobs
from shared.jobs.transitions import lock_own_job

BATCH_SIZE = 500  # jobs that one transaction changes


def set_job_priority(db: Database, tenant: str, job_id: str, priority: int) -> None:
    """Change the priority of a job that has not ended. Idempotent.

    Raises:
        NotFound: no such job of this tenant.
        Conflict: it has ended.
    """

    def change(connection: Connection) -> None:
        row = lock_own_job(connection, tenant, job_id)
        if row.state in TERMINAL:
            raise Conflict(f"job {job_id} has {row.state}: its priority can no longer be changed")
        if row.priority != priority:
            _change_locked(db, connection, [row], priority)

    db.run_transaction(change)


def set_audit_priority(db: Database, tenant: str, audit_id: str, priority: int) -> int:
    """Change the priority of all jobs of an audit that have not ended, also of those that other
    audits share; returns how many were changed. In slices: if it dies, calling it again finishes it.

    Raises:
        NotFound: no such audit of this tenant.
        Conflict: all its jobs have ended.
    """
    members = select(audit_jobs.c.job).where(audit_jobs.c.audit == audit_id, ~audit_jobs.c.detached)
    live = (jobs.c.id.in_(members), jobs.c.state.in_(LIVE))
    with db.read() as connection:
        mine = (audits.c.id == audit_id) & (audits.c.tenant == tenant) & ~audits.c.deleting
        if connection.execute(select(audits.c.id).where(mine)).one_or_none() is None:
            raise NotFound(f"there is no audit {audit_id}")
        if connection.execute(select(jobs.c.id).where(*live).limit(1)).first() is None:
            raise Conflict(
                f"all jobs of audit {audit_id} have ended: their priority can no longer be changed"
            )

    def change_batch(connection: Connection) -> int:
        others = select(jobs).where(*live, jobs.c.priority != priority)
        rows = connection.execute(
            others.order_by(jobs.c.id).limit(BATCH_SIZE).with_for_update()
        ).all()
        if rows:
            _change_locked(db, connection, rows, priority)
        return len(rows)

    total = 0
    while count := db.run_transaction(change_batch):
        total += count
        failpoint("priority.between_slices")
    return total


def _change_locked(
    db: Database, connection: Connection, rows: Sequence[Row[Any]], priority: int
) -> None:
    rank = compute_rank(jobs.c.queued_at, priority)
    connection.execute(
        update(jobs)
        .where(jobs.c.id.in_([row.id for row in rows]))
        .values(
            priority=priority,
            rank=case((jobs.c.state == State.QUEUED, rank), else_=jobs.c.rank),
            event_seq=jobs.c.event_seq + 1,
            version=jobs.c.version + 1,
        )
    )
    event_rows = [
        {
            "job": row.id,
            "seq": row.event_seq + 1,
            "kind": "priority",
            "data": to_json({"from": row.priority, "to": priority}),
        }
        for row in rows
    ]
    connection.execute(insert(events).values(at=db.now), event_rows)
