"""The life of one attempt, as SQL sees it: claim, renew, checkpoint, and one of five ends.

Every write after the claim names the fence. A holder whose fence has passed gets `FencedOut` (or None
from `renew`) and must publish nothing.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, exists, func, select, update

from shared.errors import FencedOut
from shared.jobs.database import Database
from shared.jobs.moves import held, move, note
from shared.jobs.records import Artifact, Claim, Orders
from shared.jobs.rows import job_record, to_json
from shared.jobs.states import Failure, State, Stop
from shared.jobs.tables import job_artifacts, job_inputs, job_plugins, jobs, workers


def claim(db: Database, worker: str, stages: Collection[str], plugins: Collection[str], lease: float) -> Claim | None:
    """Take the best queued job that this worker can run: highest priority, then the tenant with the fewest
    running jobs, then the oldest. None when there is none, or when the worker was told to drain.

    Args:
        plugins: every `kind:name` in the worker's own catalog.
        lease: seconds for which the claim holds.
    """
    rival = jobs.alias("rival")
    share = (
        select(func.count()).where(rival.c.tenant == jobs.c.tenant, rival.c.state == State.RUNNING).scalar_subquery()
    )
    foreign = exists().where(job_plugins.c.job == jobs.c.id, job_plugins.c.plugin.not_in(list(plugins)))
    best = (
        select(jobs)
        .where(jobs.c.stage.in_(list(stages)), jobs.c.state == State.QUEUED, ~foreign)
        .order_by(jobs.c.priority.desc(), share, jobs.c.queued_at, jobs.c.id)
        .limit(1)
        .with_for_update(skip_locked=True, of=jobs)
    )

    def work(connection: Connection) -> Claim | None:
        drain = connection.execute(select(workers.c.drain).where(workers.c.id == worker)).scalar_one_or_none()
        row = None if drain else connection.execute(best).one_or_none()
        if row is None:
            return None
        fence = row.fence + 1
        taken = {"fence": fence, "attempt": row.attempt + 1, "worker": worker, "stop": None}
        times = {"lease_until": db.now + lease, "started_at": db.now}
        move(db, connection, row, State.RUNNING, "claimed", **taken, **times)
        job, inputs = job_record(connection, row.id), _input_digests(connection, row.id)
        if len(inputs) < len(job.inputs):  # tolerant: what it makes of a part must not pass for the whole
            connection.execute(update(jobs).where(jobs.c.id == row.id).values(live_key=None))
        return Claim(job, fence, inputs)

    return db.retrying(work)


def _input_digests(connection: Connection, job_id: str) -> dict[str, str]:
    joined = job_inputs.outerjoin(
        job_artifacts,
        (job_artifacts.c.job == job_inputs.c.parent) & (job_artifacts.c.role == job_inputs.c.parent_role),
    )
    query = select(job_inputs.c.role, func.coalesce(job_inputs.c.sha256, job_artifacts.c.sha256).label("sha256"))
    found = connection.execute(query.select_from(joined).where(job_inputs.c.job == job_id))
    return {r.role: r.sha256 for r in found if r.sha256 is not None}


def renew(
    db: Database, job_id: str, fence: int, lease: float, progress: Mapping[str, Any] | None = None
) -> Orders | None:
    """Hold the job for `lease` seconds more and carry progress out; None when the fence has passed.

    The answer says whether to stop (`cancel`, `timeout`) and whether the worker is to drain.
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
        late = (
            row.time_limit is not None
            and connection.execute(select(db.now - row.started_at)).scalar_one() > row.time_limit
        )
        drain = connection.execute(select(workers.c.drain).where(workers.c.id == row.worker)).scalar_one_or_none()
        return Orders(row.stop or (Stop.TIMEOUT if late else None), bool(drain))

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


def equal_work(db: Database, tenant: str, content_key: str) -> tuple[str, tuple[Artifact, ...]] | None:
    """A job of the tenant that did the same work and succeeded, with its artifacts."""
    query = select(jobs.c.id).where(
        jobs.c.tenant == tenant, jobs.c.content_key == content_key, jobs.c.state == State.SUCCEEDED
    )
    with db.read() as connection:
        job_id = connection.execute(query.order_by(jobs.c.finished_at).limit(1)).scalar_one_or_none()
        return None if job_id is None else (job_id, job_record(connection, job_id).artifacts)


def finish(
    db: Database,
    job_id: str,
    fence: int,
    artifacts: Sequence[Artifact],
    *,
    content_key: str,
    code: str,
    reused_from: str | None = None,
    progress: Mapping[str, Any] | None = None,
) -> set[str]:
    """The job succeeded: artifact rows, terminal state and released dependants in one transaction.

    Returns the stages that got something to do. Raises FencedOut: nothing was written.
    """

    def work(connection: Connection) -> set[str]:
        row = held(connection, job_id, fence)
        if artifacts:
            rows = [
                {
                    "job": job_id,
                    "tenant": row.tenant,
                    "role": a.role,
                    "sha256": a.sha256,
                    "size": a.size,
                    "media_type": a.media_type,
                }
                for a in artifacts
            ]
            # a job that made its artifacts again, because one was damaged, has rows already
            new = db.insert(job_artifacts)
            names = ("sha256", "size", "media_type")
            there = [job_artifacts.c.job, job_artifacts.c.role]
            made = new.on_conflict_do_update(index_elements=there, set_={n: new.excluded[n] for n in names})
            connection.execute(made, rows)
        values: dict[str, Any] = {
            "content_key": content_key,
            "code": code,
            "reused_from": reused_from,
            "checkpoint": None,
            "checkpoint_key": None,
        }
        if progress is not None:
            values["progress"] = to_json(progress)
        if code != row.code:
            values["live_key"] = None  # planned for other code: it must not answer for its plan key
        because = "the same work was done before" if reused_from else "done"
        return move(db, connection, row, State.SUCCEEDED, because, **values)

    return db.retrying(work)


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


def give_back(db: Database, job_id: str, fence: int, why: str) -> set[str]:
    """The attempt cannot go on, through no fault of the job: it is queued again, free of charge. Raises FencedOut."""

    def work(connection: Connection) -> set[str]:
        row = held(connection, job_id, fence)
        # a cancel that came in meanwhile is obeyed here: nobody else would see it
        if row.stop == Stop.CANCEL:
            return move(db, connection, row, State.CANCELLED, "asked")
        return move(db, connection, row, State.QUEUED, why)

    return db.retrying(work)


def lose(db: Database, job_id: str, fence: int, why: str, max_lost: int) -> set[str]:
    """Give up a running attempt that is dead, frozen or could not go on; charged. Raises FencedOut."""
    return db.retrying(lambda c: charge(db, c, held(c, job_id, fence), why, max_lost))


def charge(db: Database, connection: Connection, row: Row[Any], why: str, max_lost: int) -> set[str]:
    """A locked running job lost its attempt: cancelled if that was asked, failed if this was the last one
    allowed, else queued again."""
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
    return move(db, connection, row, State.QUEUED, why, lost_count=lost)
