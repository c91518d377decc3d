"""One attempt in SQL, from its claim on: lease renewals, checkpoints, and one of six ends.

Every write carries the fencing token. An attempt whose token is outdated gets `FencedOut` (or None
from `renew_lease`) and must publish nothing.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, select, text, update

from shared.jobs import worker_registry
from shared.jobs.database import NOW_SQL, Database
from shared.jobs.mapping import to_json
from shared.jobs.outbox import append_lost_attempt, run_fenced_transaction
from shared.jobs.records import ControlFlags, WorkerMemory
from shared.jobs.states import Failure, State, Stop
from shared.jobs.tables import jobs, workers
from shared.jobs.transitions import append_event, lock_with_fence, transition

MAX_BACKOFF_S = 300.0

# All of a renewal in one statement, with the worker's heartbeat: what a fleet does most often.
_RENEW_TEMPLATE = """
WITH held AS (
    SELECT id, coalesce(progress <> CAST(:progress AS text), false) AS has_news FROM jobs
    WHERE id = :id AND fence = :fence AND state = 'running' FOR UPDATE
), renewed AS (
    UPDATE jobs SET lease_until = {now} + :lease,
        progress = coalesce(CAST(:progress AS text), progress),
        event_seq = event_seq + CAST(has_news AS integer),
        version = version + CAST(has_news AS integer)
    FROM held WHERE jobs.id = held.id
    RETURNING jobs.id, jobs.event_seq, jobs.stop, jobs.worker, has_news
), noted AS (
    INSERT INTO events (job, seq, at, kind, data)
    SELECT id, event_seq, {now}, 'progress', :progress FROM renewed WHERE has_news
), seen AS (
    UPDATE workers SET seen_at = {now}, memory_bytes = CAST(:memory_bytes AS bigint),
        device_memory_bytes = CAST(:device_memory_bytes AS bigint)
    FROM renewed WHERE workers.id = renewed.worker AND :is_heartbeat
)
SELECT stop, (SELECT drain FROM workers WHERE workers.id = renewed.worker) AS drain FROM renewed
"""
_RENEW = text(_RENEW_TEMPLATE.format(now=NOW_SQL["postgresql"]))


def renew_lease(
    db: Database,
    job_id: str,
    fence: int,
    lease_s: float,
    progress: Mapping[str, Any] | None = None,
    memory: WorkerMemory | None = None,
) -> ControlFlags | None:
    """Extend the lease by `lease_s` seconds and store the progress; None when the fence is
    outdated.

    The result says whether to stop (`cancel`) and whether the worker should drain. The time limit
    is not checked here: the store's clock may be changed.

    Args:
        memory: also record a heartbeat of the worker, with this; nothing is recorded if the fence
            is outdated.
    """
    stored = None if progress is None else to_json(progress)
    with_fence = (jobs.c.id == job_id, jobs.c.fence == fence, jobs.c.state == State.RUNNING)

    def extend(connection: Connection) -> ControlFlags | None:
        if db.dialect == "postgresql":
            values = {"id": job_id, "fence": fence, "lease": lease_s, "progress": stored}
            values |= {
                "is_heartbeat": memory is not None,
                "memory_bytes": memory and memory.used_bytes,
                "device_memory_bytes": memory and memory.device_bytes,
            }
            row = connection.execute(_RENEW, values).one_or_none()
            return None if row is None else ControlFlags(row.stop, row.drain)
        # not the whole row: the parameters of a report are megabytes
        row = connection.execute(
            select(jobs.c.id, jobs.c.worker, jobs.c.stop, jobs.c.progress).where(*with_fence)
        ).one_or_none()
        if row is None:
            return None
        lease_until = db.now + lease_s
        if progress is not None and row.progress != stored:
            kept = {"progress": stored, "lease_until": lease_until}
            append_event(db, connection, row, "progress", progress, **kept)
        else:
            connection.execute(update(jobs).where(*with_fence).values(lease_until=lease_until))
        if memory is not None:
            drain = worker_registry.touch_worker(db, connection, row.worker, memory)
        else:
            its = select(workers.c.drain).where(workers.c.id == row.worker)
            drain = connection.execute(its).scalar_one_or_none()
        return ControlFlags(row.stop, drain)

    return db.run_transaction(extend)


def save_checkpoint(db: Database, job_id: str, fence: int, sha256: str, cache_key: str) -> None:
    """Move the checkpoint pointer.

    Raises:
        FencedOut: the fence has passed; the pointer stays.
    """

    def move_pointer(connection: Connection) -> None:
        row = lock_with_fence(connection, job_id, fence)
        append_event(
            db,
            connection,
            row,
            "checkpoint",
            {"sha256": sha256},
            checkpoint=sha256,
            checkpoint_key=cache_key,
        )

    run_fenced_transaction(db, job_id, move_pointer)


def find_checkpoint(db: Database, job_id: str, cache_key: str) -> str | None:
    """The checkpoint to resume from, if the same code wrote it for the same inputs."""
    with db.read() as connection:
        same = (jobs.c.id == job_id) & (jobs.c.checkpoint_key == cache_key)
        return connection.execute(select(jobs.c.checkpoint).where(same)).scalar_one_or_none()


def fail_attempt(db: Database, job_id: str, fence: int, failure: Failure, message: str) -> set[str]:
    """The job failed. Returns the stages to wake: a job with run_when all_finished goes on without
    it.

    Raises FencedOut: nothing was written.
    """

    def write_end(connection: Connection) -> set[str]:
        row = lock_with_fence(connection, job_id, fence)
        return transition(
            db, connection, row, State.FAILED, failure, failure=failure, message=message
        )

    return run_fenced_transaction(db, job_id, write_end)


def cancel_attempt(db: Database, job_id: str, fence: int) -> set[str]:
    """The attempt stopped after a cancel; returns the stages to wake. Raises FencedOut."""

    def write_end(connection: Connection) -> set[str]:
        row = lock_with_fence(connection, job_id, fence)
        return transition(db, connection, row, State.CANCELLED, "asked")

    return run_fenced_transaction(db, job_id, write_end)


def drain_attempt(db: Database, job_id: str, fence: int) -> set[str]:
    """The worker shuts down: the job is queued again, not counted as lost. Raises FencedOut."""
    return requeue_attempt(db, job_id, fence, "drained")


def requeue_attempt(
    db: Database, job_id: str, fence: int, reason: str, pause_s: float = 0.0
) -> set[str]:
    """Queue the job again without counting the attempt as lost: the job did not cause its end.
    Raises FencedOut.

    Args:
        pause_s: seconds in which nobody claims it.
    """

    def write_end(connection: Connection) -> set[str]:
        row = lock_with_fence(connection, job_id, fence)
        # a cancel that came in meanwhile is obeyed here: nobody else would see it
        if row.stop == Stop.CANCEL:
            return transition(db, connection, row, State.CANCELLED, "asked")
        return transition(db, connection, row, State.QUEUED, reason, pause_s=pause_s)

    return run_fenced_transaction(db, job_id, write_end)


def lose_attempt(
    db: Database,
    job_id: str,
    fence: int,
    reason: str,
    max_lost_attempts: int,
    backoff_s: float = 0.0,
) -> set[str]:
    """End an attempt that died, stalled or could not go on, and count it as lost. Raises
    FencedOut."""
    return db.run_transaction(
        lambda c: record_lost_attempt(
            db, c, lock_with_fence(c, job_id, fence), reason, max_lost_attempts, backoff_s
        )
    )


def record_lost_attempt(
    db: Database,
    connection: Connection,
    row: Row[Any],
    reason: str,
    max_lost_attempts: int,
    backoff_s: float,
) -> set[str]:
    """The attempt of a locked, running job was lost: cancel the job if that was requested, fail it
    if this was the last attempt allowed, else queue it again after a pause.

    Args:
        backoff_s: first pause; each further one is twice as long, up to `MAX_BACKOFF_S`. Jitter of
            50 % keeps jobs that were lost together from returning together.
    """
    lost_count = row.lost_count + 1
    append_lost_attempt(db, connection, row)
    if row.stop == Stop.CANCEL:
        return transition(db, connection, row, State.CANCELLED, "asked", lost_count=lost_count)
    if lost_count >= max_lost_attempts:
        message = f"{lost_count} attempts were lost, the last because {reason}; check the worker's log, then retry"
        return transition(
            db,
            connection,
            row,
            State.FAILED,
            reason,
            lost_count=lost_count,
            failure=Failure.LOST_WORKER,
            message=message,
        )
    pause_s = compute_max_backoff(lost_count, backoff_s) * random.uniform(0.5, 1.0)  # noqa: S311 - spread, not secrecy
    return transition(
        db, connection, row, State.QUEUED, reason, lost_count=lost_count, pause_s=pause_s
    )


def compute_max_backoff(lost_count: int, backoff_s: float) -> float:
    """The longest pause, in seconds, of a job with this many lost attempts (0: as for one)."""
    return float(min(MAX_BACKOFF_S, backoff_s * 2 ** max(0, lost_count - 1)))
