"""The one function that changes a job's state, and what follows from a change.

Everything here runs inside the caller's write transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, case, delete, insert, literal, select, update

from shared.errors import Conflict, FencedOut, NotFound
from shared.jobs.database import Database
from shared.jobs.mapping import to_json
from shared.jobs.outbox import append_ended_jobs
from shared.jobs.ranking import compute_rank
from shared.jobs.states import LIVE, TERMINAL, TRANSITIONS, UNSUCCESSFUL, Failure, State, Stop
from shared.jobs.tables import events, job_artifacts, job_inputs, jobs
from shared.wiring import RunWhen


def lock_job(connection: Connection, job_id: str) -> Row[Any]:
    """The job's row, locked until the transaction ends (SQLite's write transaction has locked
    everything).

    Raises:
        NotFound: no such job.
    """
    row = connection.execute(
        select(jobs).where(jobs.c.id == job_id).with_for_update()
    ).one_or_none()
    if row is None:
        raise NotFound(f"there is no job {job_id}")
    return row


def lock_own_job(connection: Connection, tenant: str, job_id: str) -> Row[Any]:
    """Lock a job of this tenant and return its row. Raises NotFound."""
    row = lock_job(connection, job_id)
    if row.tenant != tenant:
        raise NotFound(f"there is no job {job_id}")
    return row


def lock_with_fence(connection: Connection, job_id: str, fence: int) -> Row[Any]:
    """The job's row, locked, if the attempt with this fence holds it.

    Raises:
        FencedOut: it does not, or not any more.
    """
    row = lock_job(connection, job_id)
    if row.state != State.RUNNING or row.fence != fence:
        raise FencedOut(
            f"attempt with fence {fence} of job {job_id} is over: the job is {row.state} with "
            f"fence {row.fence}"
        )
    return row


def append_event(
    db: Database, connection: Connection, row: Row[Any], kind: str, data: Any, **values: Any
) -> None:
    """Append an event to a locked job and set `values` on it."""
    next_seq = (
        update(jobs)
        .where(jobs.c.id == row.id)
        .values(event_seq=jobs.c.event_seq + 1, version=jobs.c.version + 1, **values)
        .returning(jobs.c.event_seq)
    )
    seq = connection.execute(next_seq).scalar_one()
    connection.execute(
        insert(events).values(job=row.id, seq=seq, at=db.now, kind=kind, data=to_json(data))
    )


def transition(
    db: Database,
    connection: Connection,
    row: Row[Any],
    to: State,
    because: str,
    *,
    pause_s: float = 0.0,
    **values: Any,
) -> set[str]:
    """Change the state of a locked job, with an event, and release or fail what depends on it.

    Args:
        pause_s: seconds before the queued job can be claimed.
        values: further columns.

    Returns the stages to wake.

    Raises:
        Conflict: `shared.jobs.states.TRANSITIONS` does not have this step.
    """
    before = State(row.state)
    if (before, to) not in TRANSITIONS:
        raise Conflict(f"job {row.id} is {before}: it cannot become {to}")
    values = {"state": to, **_side_effects(db, row, to), **values}
    data: dict[str, Any] = {"from": before, "to": to, "because": because}
    data |= {k: values[k] for k in ("failure", "message", "worker", "lost_count") if values.get(k)}
    if pause_s:
        values["not_before"], data["pause_s"] = db.now + pause_s, round(pause_s, 3)
    append_event(db, connection, row, "state", data, **values)
    if to in TERMINAL:
        append_ended_jobs(connection, [row.id], ran=before is State.RUNNING)
    _unlink_artifacts(connection, [row], to)
    stages = {row.stage} if to is State.QUEUED else set()
    if to is State.SUCCEEDED:
        stages |= release_children(db, connection, row.id)
    elif to in UNSUCCESSFUL:
        for waiting in lock_waiting_children(connection, row.id):
            child = lock_job(connection, waiting.id)
            if child.state != State.WAITING:
                continue  # failed meanwhile, through another of its inputs
            # it will run with a part of its inputs, and must not be shared any more
            if child.run_when == RunWhen.ALL_FINISHED:
                connection.execute(update(jobs).where(jobs.c.id == child.id).values(dedup_key=None))
                continue
            message = f"its input, job {row.id} ({row.stage}), {to}: retry that one first"
            stages |= transition(
                db,
                connection,
                child,
                State.FAILED,
                "an input failed",
                failure=Failure.INPUT_FAILED,
                message=message,
            )
        stages |= release_children(db, connection, row.id)
    return stages


def transition_leaves(
    db: Database, connection: Connection, rows: Sequence[Row[Any]], to: State, because: str
) -> None:
    """Change the state of many locked jobs for which nobody waits, in a few statements.

    Raises:
        Conflict: `shared.jobs.states.TRANSITIONS` does not have one of these steps.
    """
    if not rows:
        return
    for row in rows:
        if (State(row.state), to) not in TRANSITIONS:
            raise Conflict(f"job {row.id} is {row.state}: it cannot become {to}")
    values = {"state": to, **_side_effects(db, rows[0], to)}
    counters = {"event_seq": jobs.c.event_seq + 1, "version": jobs.c.version + 1}
    connection.execute(
        update(jobs).where(jobs.c.id.in_([r.id for r in rows])).values(**counters, **values)
    )
    event_rows = [
        {
            "job": r.id,
            "seq": r.event_seq + 1,
            "kind": "state",
            "data": to_json({"from": r.state, "to": to, "because": because}),
        }
        for r in rows
    ]
    connection.execute(insert(events).values(at=db.now), event_rows)
    if to in TERMINAL:
        append_ended_jobs(connection, [row.id for row in rows], ran=False)
    _unlink_artifacts(connection, rows, to)


def _unlink_artifacts(connection: Connection, rows: Sequence[Row[Any]], to: State) -> None:
    """A job that succeeded once and then failed to rebuild its artifacts has none."""
    job_ids = [row.id for row in rows if row.cache_key is not None]
    if job_ids and to in UNSUCCESSFUL:
        connection.execute(delete(job_artifacts).where(job_artifacts.c.job.in_(job_ids)))


def _side_effects(db: Database, row: Row[Any], to: State) -> dict[str, Any]:
    """The columns that every transition to `to` sets besides the state."""
    if to is State.QUEUED:
        # a job that was drained, lost or paused keeps its age, and so its place in the queue
        return {
            **build_queue_columns(db, row.queued_at, row.priority),
            "lease_until": None,
            "stop": None,
            "summary": None,
        }
    if to is State.WAITING:
        return {"lease_until": None, "stop": None, "summary": None}
    if to is State.SUCCEEDED:
        return {"finished_at": db.now, "lease_until": None, "stop": None}
    if to in UNSUCCESSFUL:
        # a failed job is not shared: the next identical submission gets a new one
        return {"finished_at": db.now, "lease_until": None, "stop": None, "dedup_key": None}
    return {}


def build_queue_columns(db: Database, queued_at: float | None, priority: int) -> dict[str, Any]:
    """The columns of a queued job: since when it is queued (now if not given), and its rank."""
    # A time in the future, from before the clock was set back, would put the job behind everything
    # that comes in.
    at = (
        db.now
        if queued_at is None
        else case((literal(queued_at) > db.now, db.now), else_=literal(queued_at))
    )
    return {"queued_at": at, "rank": compute_rank(at, priority), "not_before": None}


def dead_end_reason(row: Row[Any]) -> str | None:
    """Why a job cannot succeed unless it is retried; None if it still can."""
    if row.state in UNSUCCESSFUL:
        return f"has {row.state}"
    return "is being cancelled" if row.stop == Stop.CANCEL else None


def lock_waiting_children(connection: Connection, job_id: str) -> list[Row[Any]]:
    """Waiting children, locked. Locking a child before looking at its other parents is what keeps
    two parents that finish at the same moment from each leaving the release to the other."""
    mine = select(job_inputs.c.job).where(job_inputs.c.parent == job_id)
    query = (
        select(jobs)
        .where(jobs.c.id.in_(mine), jobs.c.state == State.WAITING)
        .order_by(jobs.c.id)
        .with_for_update()
    )
    return list(connection.execute(query))


def has_input_in(
    connection: Connection, row: Row[Any], states: frozenset[State] | None = None
) -> bool:
    """Whether an input of the job comes from a job in one of `states`; by default, in a state that
    blocks the job.

    An unfinished input blocks every job; a failed or cancelled one does not block a job with
    run_when all_finished.
    """
    if states is None:
        states = LIVE if row.run_when == RunWhen.ALL_FINISHED else LIVE | UNSUCCESSFUL
    parent = jobs.alias("parent")
    query = (
        select(job_inputs.c.job)
        .select_from(job_inputs.join(parent, parent.c.id == job_inputs.c.parent))
        .where(and_(job_inputs.c.job == row.id, parent.c.state.in_(states)))
    )
    return connection.execute(query.limit(1)).first() is not None


def release_children(db: Database, connection: Connection, job_id: str) -> set[str]:
    """Queue the children that waited only for this finished job; returns the stages to wake."""
    stages: set[str] = set()
    for child in lock_waiting_children(connection, job_id):
        if has_input_in(connection, child):
            continue
        if has_input_in(connection, child, states=frozenset({State.SUCCEEDED})):
            stages |= transition(
                db, connection, child, State.QUEUED, TRANSITIONS[State.WAITING, State.QUEUED]
            )
        else:
            failure_values: dict[str, Any] = {
                "failure": Failure.INPUT_FAILED,
                "message": "none of its inputs succeeded: retry those first",
            }
            stages |= transition(
                db, connection, child, State.FAILED, "an input failed", **failure_values
            )
    return stages
