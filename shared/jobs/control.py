"""User commands for jobs and audits: cancel, retry, pause, resume. All of it is SQL, so it works
without Redis."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select, update
from sqlalchemy.exc import IntegrityError

from shared.errors import Conflict, NotFound
from shared.failpoints import failpoint
from shared.jobs.database import Database
from shared.jobs.outbox import append_changed_audit
from shared.jobs.restart import (
    answer_for_equals,
    can_start,
    is_blocked,
    list_dead_ends,
    lock_with_inputs,
    restart,
)
from shared.jobs.states import LIVE, TERMINAL, UNSUCCESSFUL, State, Stop
from shared.jobs.tables import audit_jobs, audits, job_inputs, jobs
from shared.jobs.transitions import (
    append_event,
    dead_end_reason,
    lock_own_job,
    lock_waiting_children,
    transition,
    transition_leaves,
)
from shared.wiring import RunWhen

BATCH_SIZE = 500  # jobs that one transaction cancels


def cancel_job(db: Database, tenant: str, job_id: str) -> set[str]:
    """Cancel a job: at once if it is not running, else within seconds. Idempotent.

    Returns the stages to wake: a job with run_when all_finished goes on without it.

    Raises:
        NotFound: no such job of this tenant.
    """
    return db.run_transaction(lambda c: cancel_locked(db, c, lock_own_job(c, tenant, job_id)))


def cancel_locked(db: Database, connection: Connection, row: Row[Any]) -> set[str]:
    """Cancel a locked job, or tell its attempt to stop; returns the stages to wake."""
    if row.state in TERMINAL:
        return set()
    if row.state == State.RUNNING:
        if row.stop != Stop.CANCEL:
            append_event(db, connection, row, "cancel", {}, stop=Stop.CANCEL)
            _clear_dedup_keys(connection, row)
        return set()
    return transition(db, connection, row, State.CANCELLED, "asked")


def _clear_dedup_keys(connection: Connection, row: Row[Any]) -> None:
    """A job that is being cancelled, and all jobs that wait for it, must not be shared with an
    equal submission."""
    connection.execute(update(jobs).where(jobs.c.id == row.id).values(dedup_key=None))
    for child in lock_waiting_children(connection, row.id):
        _clear_dedup_keys(connection, child)


def cancel_audit(db: Database, tenant: str, audit_id: str) -> int:
    """Detach an audit from its jobs and cancel those that nobody else wants; returns how many.

    Somebody else is another audit, a user who posted the job by hand, or a live job that needs its
    result. It goes in slices, so that others can write in between; if it dies, the reconciler goes
    on with it.

    Raises:
        NotFound: no such audit of this tenant.
    """

    def mark_cancelled(connection: Connection) -> bool:
        mine = (audits.c.id == audit_id) & (audits.c.tenant == tenant) & ~audits.c.deleting
        if (
            connection.execute(select(audits.c.id).where(mine).with_for_update()).one_or_none()
            is None
        ):
            raise NotFound(f"there is no audit {audit_id}")
        if not _has_live_jobs(connection, audit_id):
            return False  # it has ended: how it ended stays what it is
        not_yet_cancelled = audits.c.cancelled_at.is_(None)
        connection.execute(
            update(audits).where(mine, not_yet_cancelled).values(cancelled_at=db.now)
        )
        connection.execute(update(audits).where(mine).values(cancelling=True))
        append_changed_audit(db, connection, tenant, audit_id)
        connection.execute(
            update(audit_jobs).where(audit_jobs.c.audit == audit_id).values(detached=True)
        )
        return True

    return cancel_remaining_jobs(db, audit_id) if db.run_transaction(mark_cancelled) else 0


def cancel_remaining_jobs(db: Database, audit_id: str) -> int:
    """Cancel what is left of a cancelled audit's jobs that nobody else wants; returns how many."""
    n = 0
    while (batch_count := db.run_transaction(lambda c: _cancel_batch(db, c, audit_id))) is not None:
        n += batch_count
        failpoint("control.between_slices")
    return n


def _has_live_jobs(connection: Connection, audit_id: str) -> bool:
    joined = select(jobs.c.id).join(audit_jobs, audit_jobs.c.job == jobs.c.id)
    live = joined.where(audit_jobs.c.audit == audit_id, jobs.c.state.in_(LIVE)).limit(1)
    return connection.execute(live).one_or_none() is not None


def _cancel_batch(db: Database, connection: Connection, audit_id: str) -> int | None:
    """Cancel some jobs of the audit, children before parents; None when there is nothing left,
    which is noted."""
    member = select(audit_jobs.c.job).where(audit_jobs.c.audit == audit_id)
    candidates = (
        select(jobs.c.id)
        .where(jobs.c.id.in_(member), *_build_unwanted_filter())
        .order_by(jobs.c.id)
        .limit(BATCH_SIZE)
    )
    # Lock first, then look: a submission that shares a job holds its lock until it commits.
    locked = list(connection.execute(candidates.with_for_update()).scalars())
    if not locked:
        connection.execute(update(audits).where(audits.c.id == audit_id).values(cancelling=False))
        return None
    rows = list(
        connection.execute(select(jobs).where(jobs.c.id.in_(locked), *_build_unwanted_filter()))
    )
    for row in (r for r in rows if r.state == State.RUNNING):
        cancel_locked(db, connection, row)
    transition_leaves(
        db, connection, [r for r in rows if r.state != State.RUNNING], State.CANCELLED, "asked"
    )
    return len(rows)


def _build_unwanted_filter() -> list[ColumnElement[bool]]:
    """What holds of a live job that nobody wants: no audit, no user, no live job made of it."""
    child = jobs.alias("child")
    waits = job_inputs.join(child, child.c.id == job_inputs.c.job)
    needed = (
        select(child.c.id)
        .select_from(waits)
        .where(job_inputs.c.parent == jobs.c.id, child.c.state.in_(LIVE))
    )
    in_audit = select(audit_jobs.c.job).where(audit_jobs.c.job == jobs.c.id, ~audit_jobs.c.detached)
    # a running one ends when its attempt obeys
    not_told_to_stop = jobs.c.stop.is_distinct_from(Stop.CANCEL)
    return [
        jobs.c.state.in_(LIVE),
        not_told_to_stop,
        ~jobs.c.pinned,
        ~in_audit.exists(),
        ~needed.exists(),
    ]


def retry_job(db: Database, tenant: str, job_id: str) -> set[str]:
    """Run a failed or cancelled job again, from its checkpoint if it has one. Returns the stages to
    wake.

    Raises:
        NotFound: no such job of this tenant.
        Conflict: it has not ended, its input has failed, or an equal job is live.
    """

    equal = Conflict(f"an identical job is queued, running or finished: no need to retry {job_id}")

    def requeue(connection: Connection) -> set[str]:
        members = lock_with_inputs(connection, {job_id})
        row = members.rows.get(job_id)
        if row is None or row.tenant != tenant:
            raise NotFound(f"there is no job {job_id}")
        if row.state not in UNSUCCESSFUL:
            raise Conflict(
                f"job {job_id} is {row.state}: only failed and cancelled jobs can be retried"
            )
        dead_ends = list_dead_ends(job_id, members, {job_id})
        if not can_start(row, members, dead_ends):
            if row.run_when == RunWhen.ALL_FINISHED:
                raise Conflict("none of its inputs succeeded: retry those first")
            parent = dead_ends[0]
            raise Conflict(
                f"its input, job {parent.id} ({parent.stage}), {dead_end_reason(parent)}: retry "
                "that one first"
            )
        to = State.WAITING if is_blocked(job_id, members, {job_id}) else State.QUEUED
        restart(db, connection, [row], to)
        if not dead_ends and answer_for_equals(connection, [row], tenant):
            raise equal
        return {row.stage} if to is State.QUEUED else set()

    try:
        return db.run_transaction(requeue)
    except IntegrityError as error:
        raise equal from error


def pause_job(db: Database, tenant: str, job_id: str) -> None:
    """Keep a queued job from being claimed. Idempotent. Raises NotFound, Conflict (it is not
    queued)."""

    def pause(connection: Connection) -> None:
        row = lock_own_job(connection, tenant, job_id)
        if row.state != State.PAUSED:
            transition(db, connection, row, State.PAUSED, "asked")

    db.run_transaction(pause)


def resume_job(db: Database, tenant: str, job_id: str) -> set[str]:
    """Let a paused job be claimed again; returns the stages to wake. Idempotent while the job is
    queued.

    Raises NotFound, Conflict (it is neither paused nor queued).
    """

    def resume(connection: Connection) -> set[str]:
        row = lock_own_job(connection, tenant, job_id)
        if row.state == State.QUEUED:
            return set()
        if row.state != State.PAUSED:
            raise Conflict(f"job {job_id} is {row.state}, not paused")
        return transition(db, connection, row, State.QUEUED, "asked")

    return db.run_transaction(resume)
