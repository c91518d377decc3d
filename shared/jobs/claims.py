"""The life of one attempt after its claim, as SQL sees it: renew, checkpoint, and one of six ends.

Every write after the claim names the fence. A holder whose fence has passed gets `FencedOut` (or None
from `renew`) and must publish nothing.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, select, update

from shared.errors import FencedOut
from shared.jobs.database import Database
from shared.jobs.moves import held, move, note
from shared.jobs.records import Orders
from shared.jobs.rows import to_json
from shared.jobs.states import Failure, State, Stop
from shared.jobs.tables import jobs, workers

MAX_BACKOFF_S = 300.0


def renew(
    db: Database, job_id: str, fence: int, lease: float, progress: Mapping[str, Any] | None = None
) -> Orders | None:
    """Hold the job for `lease` seconds more and carry progress out; None when the fence has passed.

    The answer says whether to stop (`cancel`) and whether the worker is to drain. The time limit is not the store's
    business: its clock may be set.
    """

    def work(connection: Connection) -> Orders | None:
        try:
            row = held(connection, job_id, fence)
        except FencedOut:
            return None
        values: dict[str, Any] = {"lease_until": db.now + lease}
        if progress is not None and json.loads(row.progress) != progress:
            note(db, connection, row, "progress", progress, progress=to_json(progress), **values)
        else:
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(**values))
        drain = connection.execute(select(workers.c.drain).where(workers.c.id == row.worker)).scalar_one_or_none()
        return Orders(row.stop, bool(drain))

    return db.retrying(work)


def save_checkpoint(db: Database, job_id: str, fence: int, sha256: str, content_key: str) -> None:
    """Move the checkpoint pointer.

    Raises:
        FencedOut: the fence has passed; the pointer stays.
    """

    def work(connection: Connection) -> None:
        row = held(connection, job_id, fence)
        note(
            db,
            connection,
            row,
            "checkpoint",
            {"sha256": sha256},
            checkpoint=sha256,
            checkpoint_key=content_key,
        )

    db.retrying(work)


def checkpoint_for(db: Database, job_id: str, content_key: str) -> str | None:
    """The checkpoint to go on from, if it was made by the same code on the same inputs."""
    with db.read() as connection:
        same = (jobs.c.id == job_id) & (jobs.c.checkpoint_key == content_key)
        return connection.execute(select(jobs.c.checkpoint).where(same)).scalar_one_or_none()


def fail(db: Database, job_id: str, fence: int, failure: Failure, message: str) -> set[str]:
    """The job failed for good. Returns the stages that got something to do: a tolerant job goes without it.

    Raises FencedOut: nothing was written.
    """

    def work(connection: Connection) -> set[str]:
        row = held(connection, job_id, fence)
        return move(db, connection, row, State.FAILED, failure, failure=failure, message=message)

    return db.retrying(work)


def cancelled(db: Database, job_id: str, fence: int) -> set[str]:
    """The attempt obeyed a cancel; returns the stages to ring. Raises FencedOut."""
    return db.retrying(lambda c: move(db, c, held(c, job_id, fence), State.CANCELLED, "asked"))


def drained(db: Database, job_id: str, fence: int) -> set[str]:
    """The worker leaves: the job is queued again, free of charge. Raises FencedOut."""
    return give_back(db, job_id, fence, "drained")


def give_back(db: Database, job_id: str, fence: int, why: str, pause: float = 0.0) -> set[str]:
    """Queue the job again, free of charge: what ended the attempt was not its fault. Raises FencedOut.

    Args:
        pause: seconds in which nobody claims it.
    """

    def work(connection: Connection) -> set[str]:
        row = held(connection, job_id, fence)
        # a cancel that came in meanwhile is obeyed here: nobody else would see it
        if row.stop == Stop.CANCEL:
            return move(db, connection, row, State.CANCELLED, "asked")
        return move(db, connection, row, State.QUEUED, why, pause=pause)

    return db.retrying(work)


def lose(db: Database, job_id: str, fence: int, why: str, max_lost: int, backoff: float = 0.0) -> set[str]:
    """Give up a running attempt that is dead, frozen or could not go on; charged. Raises FencedOut."""
    return db.retrying(lambda c: charge(db, c, held(c, job_id, fence), why, max_lost, backoff))


def charge(db: Database, connection: Connection, row: Row[Any], why: str, max_lost: int, backoff: float) -> set[str]:
    """A locked running job lost its attempt: cancelled if that was asked, failed if this was the last one
    allowed, else queued again, to be claimed after a pause.

    Args:
        backoff: seconds of the first pause; each further one is twice as long, up to `MAX_BACKOFF_S`, and all are
            spread by half, so that what was lost together does not come back together.
    """
    lost = row.lost_count + 1
    if row.stop == Stop.CANCEL:
        return move(db, connection, row, State.CANCELLED, "asked", lost_count=lost)
    if lost >= max_lost:
        message = f"{lost} attempts were lost, the last because {why}; look at the worker's log, then retry"
        return move(
            db,
            connection,
            row,
            State.FAILED,
            why,
            lost_count=lost,
            failure=Failure.LOST_WORKER,
            message=message,
        )
    pause = longest_pause(lost, backoff) * random.uniform(0.5, 1.0)  # noqa: S311 - spread, not secrecy
    return move(db, connection, row, State.QUEUED, why, lost_count=lost, pause=pause)


def longest_pause(lost: int, backoff: float) -> float:
    """Seconds that a job pauses at most which has lost so many attempts. Once for a job that was given back."""
    return float(min(MAX_BACKOFF_S, backoff * 2 ** max(0, lost - 1)))
