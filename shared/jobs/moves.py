"""The one function that changes a job's state, and what follows from a change.

Everything here runs inside the caller's write transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, case, delete, insert, literal, select, update

from shared.errors import Conflict, FencedOut, NotFound
from shared.jobs.database import Database
from shared.jobs.ranking import rank
from shared.jobs.rows import to_json
from shared.jobs.states import ENDED_BADLY, LIVE, MOVES, Failure, State, Stop
from shared.jobs.tables import events, job_artifacts, job_inputs, jobs


def lock(connection: Connection, job_id: str) -> Row[Any]:
    """The job's row, locked until the transaction ends (SQLite's write transaction has locked everything).

    Raises:
        NotFound: no such job.
    """
    row = connection.execute(select(jobs).where(jobs.c.id == job_id).with_for_update()).one_or_none()
    if row is None:
        raise NotFound(f"there is no job {job_id}")
    return row


def held(connection: Connection, job_id: str, fence: int) -> Row[Any]:
    """The job's row, locked, if the attempt with this fence holds it.

    Raises:
        FencedOut: it does not, or not any more.
    """
    row = lock(connection, job_id)
    if row.state != State.RUNNING or row.fence != fence:
        raise FencedOut(
            f"attempt with fence {fence} of job {job_id} is over: the job is {row.state} with fence {row.fence}"
        )
    return row


def note(db: Database, connection: Connection, row: Row[Any], kind: str, data: Any, **values: Any) -> None:
    """Append an event to a locked job and set `values` on it."""
    changed = (
        update(jobs)
        .where(jobs.c.id == row.id)
        .values(event_seq=jobs.c.event_seq + 1, version=jobs.c.version + 1, **values)
        .returning(jobs.c.event_seq)
    )
    seq = connection.execute(changed).scalar_one()
    connection.execute(insert(events).values(job=row.id, seq=seq, at=db.now, kind=kind, data=to_json(data)))


def move(
    db: Database, connection: Connection, row: Row[Any], to: State, because: str, *, pause: float = 0.0, **values: Any
) -> set[str]:
    """Change the state of a locked job, with an event, and release or fail what depends on it.

    Args:
        pause: seconds in which nobody claims the job that is queued.
        values: further columns.

    Returns the stages that got something to do, for the ringer.

    Raises:
        Conflict: `shared.jobs.states.MOVES` does not have this step.
    """
    before = State(row.state)
    if (before, to) not in MOVES:
        raise Conflict(f"job {row.id} is {before}: it cannot become {to}")
    values = {"state": to, **_consequences(db, row, to), **values}
    data: dict[str, Any] = {"from": before, "to": to, "because": because}
    data |= {k: values[k] for k in ("failure", "message", "worker", "lost_count") if values.get(k)}
    if pause:
        values["not_before"], data["pause_s"] = db.now + pause, round(pause, 3)
    note(db, connection, row, "state", data, **values)
    _disown_artifacts(connection, [row], to)
    stages = {row.stage} if to is State.QUEUED else set()
    if to is State.SUCCEEDED:
        stages |= release_children(db, connection, row.id)
    elif to in ENDED_BADLY:
        for seen in waiting_on(connection, row.id):
            child = lock(connection, seen.id)
            if child.state != State.WAITING:
                continue  # failed meanwhile, through another of its inputs
            if child.tolerant:  # it will be made of a part: nobody's equal from now on
                connection.execute(update(jobs).where(jobs.c.id == child.id).values(live_key=None))
                continue
            message = f"its input, job {row.id} ({row.stage}), {to}: retry that one first"
            stages |= move(
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


def move_leaves(db: Database, connection: Connection, rows: Sequence[Row[Any]], to: State, because: str) -> None:
    """Change the state of many locked jobs for which nobody waits, in a few statements.

    Raises:
        Conflict: `shared.jobs.states.MOVES` does not have one of these steps.
    """
    if not rows:
        return
    for row in rows:
        if (State(row.state), to) not in MOVES:
            raise Conflict(f"job {row.id} is {row.state}: it cannot become {to}")
    values = {"state": to, **_consequences(db, rows[0], to)}
    counted = {"event_seq": jobs.c.event_seq + 1, "version": jobs.c.version + 1}
    connection.execute(update(jobs).where(jobs.c.id.in_([r.id for r in rows])).values(**counted, **values))
    happened = [
        {
            "job": r.id,
            "seq": r.event_seq + 1,
            "kind": "state",
            "data": to_json({"from": r.state, "to": to, "because": because}),
        }
        for r in rows
    ]
    connection.execute(insert(events).values(at=db.now), happened)
    _disown_artifacts(connection, rows, to)


def _disown_artifacts(connection: Connection, rows: Sequence[Row[Any]], to: State) -> None:
    """A job that had succeeded and could not make its artifacts again has none."""
    had = [row.id for row in rows if row.content_key is not None]
    if had and to in ENDED_BADLY:
        connection.execute(delete(job_artifacts).where(job_artifacts.c.job.in_(had)))


def _consequences(db: Database, row: Row[Any], to: State) -> dict[str, Any]:
    """What every move to `to` sets besides the state."""
    if to is State.QUEUED:
        # a job that was drained, lost or held keeps its age, and so its place in the queue
        return {**queued(db, row.queued_at, row.priority), "lease_until": None, "stop": None}
    if to is State.WAITING:
        return {"lease_until": None, "stop": None}
    if to is State.SUCCEEDED:
        return {"finished_at": db.now, "lease_until": None, "stop": None}
    if to in ENDED_BADLY:
        # a failed job is nobody's equal: the next equal submission runs anew
        return {"finished_at": db.now, "lease_until": None, "stop": None, "live_key": None}
    return {}


def queued(db: Database, since: float | None, priority: int) -> dict[str, Any]:
    """What a queued job has: its age, which begins now if it has none, and the place that it gives."""
    # A time in the future, from before the clock was set back, would put the job behind everything that comes in.
    at = db.now if since is None else case((literal(since) > db.now, db.now), else_=literal(since))
    return {"queued_at": at, "rank": rank(at, priority), "not_before": None}


def hopeless(row: Row[Any]) -> str | None:
    """Why nothing will come of a job unless it is retried: what to say of it, None if there is hope."""
    if row.state in ENDED_BADLY:
        return f"has {row.state}"
    return "is being cancelled" if row.stop == Stop.CANCEL else None


def waiting_on(connection: Connection, job_id: str) -> list[Row[Any]]:
    """Waiting children, locked. Locking a child before looking at its other parents is what keeps two
    parents that finish at the same moment from each leaving the release to the other."""
    mine = select(job_inputs.c.job).where(job_inputs.c.parent == job_id)
    query = select(jobs).where(jobs.c.id.in_(mine), jobs.c.state == State.WAITING).order_by(jobs.c.id).with_for_update()
    return list(connection.execute(query))


def held_back(connection: Connection, row: Row[Any], by: frozenset[State] | None = None) -> bool:
    """Whether any input of the job comes from a job in a state of `by`; without it, in one that holds it back.

    What is not over holds every job back; an input that ended badly holds back all but a tolerant one.
    """
    if by is None:
        by = LIVE if row.tolerant else LIVE | ENDED_BADLY
    parent = jobs.alias("parent")
    query = (
        select(job_inputs.c.job)
        .select_from(job_inputs.join(parent, parent.c.id == job_inputs.c.parent))
        .where(and_(job_inputs.c.job == row.id, parent.c.state.in_(by)))
    )
    return connection.execute(query.limit(1)).first() is not None


def release_children(db: Database, connection: Connection, job_id: str) -> set[str]:
    """Queue what waited for this job alone, which has ended; returns the stages that got something to do."""
    stages: set[str] = set()
    for child in waiting_on(connection, job_id):
        if held_back(connection, child):
            continue
        if held_back(connection, child, by=frozenset({State.SUCCEEDED})):
            stages |= move(db, connection, child, State.QUEUED, MOVES[State.WAITING, State.QUEUED])
        else:
            lost: dict[str, Any] = {
                "failure": Failure.INPUT_FAILED,
                "message": "none of its inputs succeeded: retry those first",
            }
            stages |= move(db, connection, child, State.FAILED, "an input failed", **lost)
    return stages
