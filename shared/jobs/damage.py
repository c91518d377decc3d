"""An artifact that the store has lost or damaged: the job that made it makes it again, and who needs it waits.

Its rows stay while it is made again, and `completion.finish` replaces them: an artifact is what its address says or it
is not there, so a row can promise nothing false. Whoever finds damage looks up its maker, looks at the bytes a
second time, and only then reports it: a maker that has been claimed since has made the bytes anew already, and is
left alone. So any number may notice at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from shared.errors import Conflict
from shared.jobs.database import Database
from shared.jobs.moves import held, held_back, lock, move
from shared.jobs.rows import to_json
from shared.jobs.states import ENDED_BADLY, LIVE, Failure, State, Stop
from shared.jobs.tables import artifacts, events, job_artifacts, job_inputs, jobs

OFTEN = 3  # times an hour that one job makes its artifacts again: a store that damages more is to be mended first
_HOUR = 3600.0


@dataclass(frozen=True)
class Maker:
    """The job that makes an artifact, and its fence before the artifact was looked at."""

    job: str
    fence: int
    at_work: bool = False  # making it again already


@dataclass(frozen=True)
class Lost:
    """An input that a job cannot read. Without a maker nobody can make it again."""

    role: str
    sha256: str
    maker: Maker | None


@dataclass(frozen=True)
class Made:
    """An artifact of a job that has succeeded."""

    maker: Maker
    sha256: str
    size: int


def made_by(db: Database, ids: Iterable[str]) -> list[Made]:
    """What those of these jobs that have succeeded have made; each artifact once."""
    joined = select(jobs.c.id, jobs.c.fence, artifacts.c.sha256, artifacts.c.size).select_from(
        jobs.join(job_artifacts, job_artifacts.c.job == jobs.c.id).join(artifacts)
    )
    found: dict[str, Made] = {}
    todo = list(ids)
    with db.read() as connection:
        for start in range(0, len(todo), 500):  # databases bound how many values a statement takes
            query = joined.where(jobs.c.id.in_(todo[start : start + 500]), jobs.c.state == State.SUCCEEDED)
            for job, fence, sha256, size in connection.execute(query):
                found[sha256] = Made(Maker(job, fence), sha256, size)
    return list(found.values())


def maker_of(db: Database, tenant: str, sha256: str, parent: str | None = None) -> Maker | None:
    """The job of the tenant that makes this artifact: `parent` if it is given, else one that is at work, then one that
    did the work itself before one that took another's. None when no job makes it any more."""
    joined = select(jobs.c.id, jobs.c.fence, jobs.c.state).join(job_artifacts, job_artifacts.c.job == jobs.c.id)
    query = joined.where(job_artifacts.c.tenant == tenant, job_artifacts.c.sha256 == sha256)
    if parent is not None:
        query = query.where(jobs.c.id == parent)
    own = (jobs.c.state == State.SUCCEEDED, jobs.c.reused_from.is_not(None), jobs.c.created_at, jobs.c.id)
    best = query.order_by(*own).limit(1)
    with db.read() as connection:
        row = connection.execute(best).one_or_none()
    return None if row is None else Maker(row.id, row.fence, row.state != State.SUCCEEDED)


def make_again(db: Database, sha256: str, maker: Maker) -> set[str]:
    """The maker of a damaged artifact goes back to its queue, and its queued children wait. Returns the stages that
    got something to do: none if the maker is at work already, or has been since.

    Raises:
        Conflict: this happens too often.
    """
    return db.retrying(lambda c: _make_again(db, c, sha256, maker))


def wait_for_inputs(db: Database, job_id: str, fence: int, lost: Sequence[Lost]) -> set[str]:
    """The attempt that holds this job cannot read these inputs: they are made again, and the job waits for them, free
    of charge. It fails where one cannot be made again. Returns the stages that got something to do.

    Raises:
        FencedOut: nothing was written.
        Conflict: this happens too often.
    """

    makers = {o.maker.job: o.maker for o in lost if o.maker}

    def work(connection: Connection) -> set[str]:
        stages: set[str] = set()
        # parents before children, and the parents in one order: who finishes a job locks in that order too
        for maker, sha256 in sorted((o.maker.job, o.sha256) for o in lost if o.maker):
            stages |= _make_again(db, connection, sha256, makers[maker])
        row = held(connection, job_id, fence)
        for one in lost:
            if one.maker is None:
                gone: dict[str, Any] = {"failure": Failure.INPUT_FAILED, "message": _gone(one)}
                return stages | move(db, connection, row, State.FAILED, "an input failed", **gone)
            _depend(connection, job_id, one.role, one.sha256, one.maker.job)
        if row.stop == Stop.CANCEL:  # nobody else would see it
            return stages | move(db, connection, row, State.CANCELLED, "asked")
        return stages | _place(db, connection, row, f"its input {lost[0].sha256} is damaged")

    return db.retrying(work)


def _gone(lost: Lost) -> str:
    return f"its input {lost.role}, artifact {lost.sha256}, is lost, and no job makes it any more: post the job again"


def _depend(connection: Connection, job_id: str, role: str, sha256: str, maker: str) -> None:
    """An input that was named by its digest comes from a job from now on: it can be waited for."""
    mine = (job_inputs.c.job == job_id) & (job_inputs.c.role == role) & job_inputs.c.parent.is_(None)
    made = select(job_artifacts.c.role).where(job_artifacts.c.job == maker, job_artifacts.c.sha256 == sha256).limit(1)
    parent_role = func.coalesce(made.scalar_subquery(), role)
    connection.execute(update(job_inputs).where(mine).values(parent=maker, parent_role=parent_role))


def _make_again(db: Database, connection: Connection, sha256: str, maker: Maker) -> set[str]:
    row = lock(connection, maker.job)
    if row.state != State.SUCCEEDED or row.fence != maker.fence:
        return set()
    because = f"its artifact {sha256} is damaged"
    if _lately(db, connection, row.id) >= OFTEN:
        raise Conflict(
            f"{because}, and job {row.id} has made it again {OFTEN} times within an hour: look at the artifact store"
        )
    anew = {"finished_at": None, "started_at": None, "lost_count": 0, "reused_from": None, "progress": to_json({})}
    stages = _place(db, connection, row, because, **anew)
    mine = select(job_inputs.c.job).where(job_inputs.c.parent == row.id)
    ready = select(jobs).where(jobs.c.id.in_(mine), jobs.c.state == State.QUEUED)
    for child in list(connection.execute(ready.order_by(jobs.c.id).with_for_update())):
        _place(db, connection, child, f"its input {sha256} is damaged")
    return stages


def _lately(db: Database, connection: Connection, job_id: str) -> int:
    """How often in the last hour a job was sent to make its artifacts again."""
    mine = (events.c.job == job_id) & (events.c.kind == "state") & (events.c.at > db.now - _HOUR)
    left = events.c.data.contains('"from":"succeeded"', autoescape=True)
    return int(connection.execute(select(func.count()).where(mine, left)).scalar_one())


def _place(db: Database, connection: Connection, row: Row[Any], because: str, **values: Any) -> set[str]:
    """Where a locked job belongs, by its inputs: queued, waiting for one that is being made, or failed with one that
    will not be. `values` are set beside that."""
    failed = held_back(connection, row, by=ENDED_BADLY)
    if failed and not row.tolerant:
        return _fail(db, connection, row, because, **values)
    if held_back(connection, row, by=LIVE):
        return move(db, connection, row, State.WAITING, because, **values)
    if failed and not held_back(connection, row, by=frozenset({State.SUCCEEDED})):
        return _fail(db, connection, row, because, **values)
    return set() if row.state == State.QUEUED else move(db, connection, row, State.QUEUED, because, **values)


def _fail(db: Database, connection: Connection, row: Row[Any], because: str, **values: Any) -> set[str]:
    stages: set[str] = set()
    if row.state != State.RUNNING:  # as any job whose input failed, it waited for it
        stages = move(db, connection, row, State.WAITING, because, **values)
        row = lock(connection, row.id)
    why = f"{because}, and what it is made from has failed: retry that one first"
    return stages | move(
        db, connection, row, State.FAILED, "an input failed", failure=Failure.INPUT_FAILED, message=why
    )
