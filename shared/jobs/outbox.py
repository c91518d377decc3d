"""What has happened and is still to be counted and told, written in the transaction in which it
happens.

A counter that every end of a job adds to would make all ends wait for each other, and one kept by a
process would forget or double what it counts when the process dies. So whoever ends a job appends a
row, which waits for nobody; `shared.jobs.outbox_reader` removes rows and counts them in one
transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import StrEnum
from typing import Any, TypeVar

from sqlalchemy import Connection, Double, Row, cast, insert, literal, null, select

from shared.errors import FencedOut, TransientError
from shared.jobs.database import Database
from shared.jobs.tables import jobs, outbox

T = TypeVar("T")


class Kind(StrEnum):
    """What has happened."""

    JOB_ENDED = "job_ended"
    ATTEMPT_LOST = "attempt_lost"
    WRITE_REFUSED = "write_refused"  # an attempt wrote with a fence that is over
    AUDIT_CHANGED = "audit_changed"  # submitted or cancelled, so it may have ended


def append_ended_jobs(connection: Connection, job_ids: Sequence[str], *, ran: bool) -> None:
    """These jobs have ended, and their rows say how.

    Args:
        ran: whether an attempt has just ended, rather than none begun.
    """
    times = (
        [jobs.c.started_at - jobs.c.queued_at, jobs.c.finished_at - jobs.c.started_at]
        if ran
        else [cast(null(), Double), cast(null(), Double)]
    )
    ended = select(
        literal(str(Kind.JOB_ENDED)),
        jobs.c.id,
        jobs.c.event_seq,
        jobs.c.tenant,
        jobs.c.stage,
        jobs.c.state,
        jobs.c.failure,
        *times,
        jobs.c.finished_at,
    ).where(jobs.c.id.in_(job_ids))
    columns = ["kind", "subject", "seq", "tenant", "stage", "state", "failure", "wait_s", "run_s"]
    connection.execute(insert(outbox).from_select([*columns, "at"], ended))


def append_lost_attempt(db: Database, connection: Connection, row: Row[Any]) -> None:
    """The attempt of this locked job was lost."""
    values = {"kind": Kind.ATTEMPT_LOST, "tenant": row.tenant, "stage": row.stage}
    connection.execute(insert(outbox).values(at=db.now, **values))


def append_changed_audit(db: Database, connection: Connection, tenant: str, audit_id: str) -> None:
    """An audit was submitted or cancelled: it may have ended without the end of a job."""
    values = {"kind": Kind.AUDIT_CHANGED, "subject": audit_id, "tenant": tenant}
    connection.execute(insert(outbox).values(at=db.now, **values))


def run_fenced_transaction(db: Database, job_id: str, write: Callable[[Connection], T]) -> T:
    """Run a write of an attempt, and count it if its fence is over.

    Raises:
        FencedOut: it is; nothing was written but the count.
    """
    try:
        return db.run_transaction(write)
    except FencedOut:
        refused = select(
            literal(str(Kind.WRITE_REFUSED)), jobs.c.tenant, jobs.c.stage, db.now
        ).where(jobs.c.id == job_id)
        with suppress(TransientError):  # the caller has to know, whether it is counted or not
            db.run_transaction(
                lambda c: c.execute(
                    insert(outbox).from_select(["kind", "tenant", "stage", "at"], refused)
                )
            )
        raise
