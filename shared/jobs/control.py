"""What a user asks of jobs and audits: cancel, retry, hold. Columns in SQL, so all of it works without Redis."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select, update
from sqlalchemy.exc import IntegrityError

from shared.errors import Conflict, NotFound
from shared.failpoints import failpoint
from shared.jobs.database import Database
from shared.jobs.moves import held_back, hopeless, lock, move, move_leaves, note, queued, waiting_on
from shared.jobs.rows import to_json
from shared.jobs.states import ENDED_BADLY, LIVE, TERMINAL, State, Stop
from shared.jobs.tables import audit_jobs, audits, job_inputs, jobs

SLICE = 500  # jobs that one transaction cancels


def cancel_job(db: Database, tenant: str, job_id: str) -> set[str]:
    """Ask a job to end: at once where it does not run, within seconds where it does. Repeating it is harmless.

    Returns the stages to ring: a tolerant job goes on without it.

    Raises:
        NotFound: no such job of this tenant.
    """
    return db.retrying(lambda c: _cancel(db, c, _own(c, tenant, job_id)))


def _own(connection: Connection, tenant: str, job_id: str) -> Row[Any]:
    row = lock(connection, job_id)
    if row.tenant != tenant:
        raise NotFound(f"there is no job {job_id}")
    return row


def _cancel(db: Database, connection: Connection, row: Row[Any]) -> set[str]:
    if row.state in TERMINAL:
        return set()
    if row.state == State.RUNNING:
        if row.stop != Stop.CANCEL:
            note(db, connection, row, "cancel", {}, stop=Stop.CANCEL)
            _disown(connection, row)
        return set()
    return move(db, connection, row, State.CANCELLED, "asked")


def _disown(connection: Connection, row: Row[Any]) -> None:
    """A job that is about to end, and all that waits for it, must not answer for an equal submission."""
    connection.execute(update(jobs).where(jobs.c.id == row.id).values(live_key=None))
    for child in waiting_on(connection, row.id):
        _disown(connection, child)


def cancel_audit(db: Database, tenant: str, audit_id: str) -> int:
    """Detach an audit from its jobs and cancel those that nobody else wants; returns how many.

    Somebody else is another audit, a user who posted the job by hand, or a live job that needs its result. It goes
    in slices, so that others can write in between; if it dies, the reconciler goes on with it.

    Raises:
        NotFound: no such audit of this tenant.
    """

    def work(connection: Connection) -> bool:
        mine = (audits.c.id == audit_id) & (audits.c.tenant == tenant)
        if connection.execute(select(audits.c.id).where(mine).with_for_update()).one_or_none() is None:
            raise NotFound(f"there is no audit {audit_id}")
        if not _has_live_jobs(connection, audit_id):
            return False  # it has ended: how it ended stays what it is
        first = audits.c.cancelled_at.is_(None)
        connection.execute(update(audits).where(mine, first).values(cancelled_at=db.now))
        connection.execute(update(audits).where(mine).values(cancelling=True))
        connection.execute(update(audit_jobs).where(audit_jobs.c.audit == audit_id).values(detached=True))
        return True

    return cancel_rest(db, audit_id) if db.retrying(work) else 0


def cancel_rest(db: Database, audit_id: str) -> int:
    """Cancel what is left of a cancelled audit's jobs that nobody else wants; returns how many."""
    n = 0
    while (some := db.retrying(lambda c: _cancel_slice(db, c, audit_id))) is not None:
        n += some
        failpoint("control.between_slices")
    return n


def _has_live_jobs(connection: Connection, audit_id: str) -> bool:
    joined = select(jobs.c.id).join(audit_jobs, audit_jobs.c.job == jobs.c.id)
    live = joined.where(audit_jobs.c.audit == audit_id, jobs.c.state.in_(LIVE)).limit(1)
    return connection.execute(live).one_or_none() is not None


def _cancel_slice(db: Database, connection: Connection, audit_id: str) -> int | None:
    """Cancel some jobs of the audit, children before parents; None when there is nothing left, which is noted."""
    member = select(audit_jobs.c.job).where(audit_jobs.c.audit == audit_id)
    some = select(jobs.c.id).where(jobs.c.id.in_(member), *_unwanted()).order_by(jobs.c.id).limit(SLICE)
    # Lock first and look then: whoever shares a job holds its lock until the share can be seen.
    locked = list(connection.execute(some.with_for_update()).scalars())
    if not locked:
        connection.execute(update(audits).where(audits.c.id == audit_id).values(cancelling=False))
        return None
    rows = list(connection.execute(select(jobs).where(jobs.c.id.in_(locked), *_unwanted())))
    for row in (r for r in rows if r.state == State.RUNNING):
        _cancel(db, connection, row)
    move_leaves(db, connection, [r for r in rows if r.state != State.RUNNING], State.CANCELLED, "asked")
    return len(rows)


def _unwanted() -> list[ColumnElement[bool]]:
    """What holds of a live job that nobody wants: no audit, no user, no live job made of it."""
    child = jobs.alias("child")
    waits = job_inputs.join(child, child.c.id == job_inputs.c.job)
    needed = select(child.c.id).select_from(waits).where(job_inputs.c.parent == jobs.c.id, child.c.state.in_(LIVE))
    kept = select(audit_jobs.c.job).where(audit_jobs.c.job == jobs.c.id, ~audit_jobs.c.detached)
    told = jobs.c.stop.is_distinct_from(Stop.CANCEL)  # a running one ends when its attempt obeys
    return [jobs.c.state.in_(LIVE), told, ~jobs.c.direct, ~kept.exists(), ~needed.exists()]


def retry_job(db: Database, tenant: str, job_id: str) -> set[str]:
    """Run a failed or cancelled job again, from its checkpoint if it has one. Returns the stages to ring.

    Raises:
        NotFound: no such job of this tenant.
        Conflict: it has not ended, its input has failed, or an equal job is live.
    """

    def work(connection: Connection) -> set[str]:
        row = _own(connection, tenant, job_id)
        if row.state not in (State.FAILED, State.CANCELLED):
            raise Conflict(f"job {job_id} is {row.state}: only a failed or cancelled one can be retried")
        parents = select(jobs).where(jobs.c.id.in_(select(job_inputs.c.parent).where(job_inputs.c.job == job_id)))
        for parent in connection.execute(parents.order_by(jobs.c.id).with_for_update()):
            if (why := hopeless(parent)) and not row.tolerant:
                raise Conflict(f"its input, job {parent.id} ({parent.stage}), {why}: retry that one first")
        if row.tolerant and not held_back(connection, row, by=frozenset(State) - ENDED_BADLY):
            raise Conflict("none of its inputs succeeded: retry those first")
        partial = row.tolerant and held_back(connection, row, by=ENDED_BADLY)
        to = State.WAITING if held_back(connection, row) else State.QUEUED
        values = {
            "failure": None, "message": None, "lost_count": 0, "finished_at": None, "started_at": None,
            "progress": to_json({}), "live_key": None if row.fresh or partial else row.plan_key,
            **(queued(db, None, row.priority) if to is State.QUEUED else {"queued_at": None}),
        }  # fmt: skip
        return move(db, connection, row, to, "retry", **values)

    try:
        return db.retrying(work)
    except IntegrityError as error:
        raise Conflict(f"an equal job is live: no need to retry {job_id}") from error


def hold_job(db: Database, tenant: str, job_id: str) -> None:
    """Keep a queued job from being claimed. Repeating it is harmless. Raises NotFound, Conflict (it is not queued)."""

    def work(connection: Connection) -> None:
        row = _own(connection, tenant, job_id)
        if row.state != State.HELD:
            move(db, connection, row, State.HELD, "asked")

    db.retrying(work)


def unhold_job(db: Database, tenant: str, job_id: str) -> set[str]:
    """Let a held job be claimed again; returns the stages to ring. Repeating it is harmless while it is queued.

    Raises NotFound, Conflict (it is neither held nor queued).
    """

    def work(connection: Connection) -> set[str]:
        row = _own(connection, tenant, job_id)
        if row.state == State.QUEUED:
            return set()
        if row.state != State.HELD:
            raise Conflict(f"job {job_id} is {row.state}, not held")
        return move(db, connection, row, State.QUEUED, "asked")

    return db.retrying(work)
