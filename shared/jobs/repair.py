"""Rebuilds artifacts that the store has lost or damaged: their job runs again, and the jobs that
need them wait.

Its rows stay while it is rebuilt, and `completion.finish_job` replaces them: an artifact matches its
address or does not exist, so a row can promise nothing false. A process that finds damage looks up
the producer, checks the bytes a second time, and only then reports it: a producer that has been
claimed since has rebuilt them already, and is left alone. So any number may notice at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from shared.errors import Conflict
from shared.jobs.database import Database
from shared.jobs.mapping import to_json
from shared.jobs.states import LIVE, UNSUCCESSFUL, Failure, State, Stop
from shared.jobs.tables import artifacts, events, job_artifacts, job_inputs, jobs
from shared.jobs.transitions import (
    has_input_in,
    lock_job,
    lock_own_job,
    lock_with_fence,
    transition,
)
from shared.wiring import RunWhen

MAX_REBUILDS_PER_HOUR = 3  # per job; beyond that the store itself needs repair
_HOUR_S = 3600.0


@dataclass(frozen=True)
class Producer:
    """The job that makes an artifact, and its fence before the artifact was looked at."""

    job: str
    fence: int
    rebuilding: bool = False  # is already rebuilding it


@dataclass(frozen=True)
class UnreadableInput:
    """An input that a job cannot read; it cannot be rebuilt without a producer."""

    role: str
    sha256: str
    producer: Producer | None


@dataclass(frozen=True)
class ProducedArtifact:
    """An artifact of a job that has succeeded."""

    producer: Producer
    sha256: str
    size: int


def list_produced_artifacts(
    db: Database, tenant: str, job_ids: Iterable[str]
) -> list[ProducedArtifact]:
    """The artifacts of those of these jobs of the tenant that have succeeded, each once."""
    joined = select(jobs.c.id, jobs.c.fence, artifacts.c.sha256, artifacts.c.size).select_from(
        jobs.join(job_artifacts, job_artifacts.c.job == jobs.c.id).join(artifacts)
    )
    by_sha256: dict[str, ProducedArtifact] = {}
    remaining_ids = list(job_ids)
    with db.read() as connection:
        # databases bound how many values a statement takes
        for start in range(0, len(remaining_ids), 500):
            query = joined.where(
                jobs.c.tenant == tenant,
                jobs.c.id.in_(remaining_ids[start : start + 500]),
                jobs.c.state == State.SUCCEEDED,
            )
            for job, fence, sha256, size in connection.execute(query):
                by_sha256[sha256] = ProducedArtifact(Producer(job, fence), sha256, size)
    return list(by_sha256.values())


def find_producer(
    db: Database, tenant: str, sha256: str, parent: str | None = None
) -> Producer | None:
    """The tenant's job that makes this artifact: `parent` if given, else one that is rebuilding it,
    then one that computed it rather than reused it. None when no job makes it any more."""
    joined = select(jobs.c.id, jobs.c.fence, jobs.c.state).join(
        job_artifacts, job_artifacts.c.job == jobs.c.id
    )
    query = joined.where(job_artifacts.c.tenant == tenant, job_artifacts.c.sha256 == sha256)
    if parent is not None:
        query = query.where(jobs.c.id == parent)
    preference = (
        jobs.c.state == State.SUCCEEDED,
        jobs.c.reused_from.is_not(None),
        jobs.c.created_at,
        jobs.c.id,
    )
    best = query.order_by(*preference).limit(1)
    with db.read() as connection:
        row = connection.execute(best).one_or_none()
    return None if row is None else Producer(row.id, row.fence, row.state != State.SUCCEEDED)


def rebuild_artifact(db: Database, tenant: str, sha256: str, producer: Producer) -> set[str]:
    """Queue the tenant's producer of a damaged artifact again; its queued children wait. Returns the
    stages to wake: none if the producer is running, or has run since.

    Raises:
        NotFound: no such job of this tenant.
        Conflict: this happens too often.
    """

    def requeue(connection: Connection) -> set[str]:
        lock_own_job(connection, tenant, producer.job)
        return _requeue_producer(db, connection, sha256, producer)

    return db.run_transaction(requeue)


def wait_for_inputs(
    db: Database, job_id: str, fence: int, unreadable: Sequence[UnreadableInput]
) -> set[str]:
    """The running attempt cannot read these inputs: rebuild them and let the job wait, without
    counting the attempt as lost. Fails the job if one cannot be rebuilt. Returns the stages to
    wake.

    Raises:
        FencedOut: nothing was written.
        Conflict: this happens too often.
    """

    producers = {o.producer.job: o.producer for o in unreadable if o.producer}

    def requeue_all(connection: Connection) -> set[str]:
        stages: set[str] = set()
        # parents before children, and the parents in one order: who finishes a job locks in that
        # order too
        for maker, sha256 in sorted((o.producer.job, o.sha256) for o in unreadable if o.producer):
            stages |= _requeue_producer(db, connection, sha256, producers[maker])
        row = lock_with_fence(connection, job_id, fence)
        for one in unreadable:
            if one.producer is None:
                failure_values: dict[str, Any] = {
                    "failure": Failure.INPUT_FAILED,
                    "message": _describe_missing_input(one),
                }
                return stages | transition(
                    db, connection, row, State.FAILED, "an input failed", **failure_values
                )
            _link_input_to_producer(connection, job_id, one.role, one.sha256, one.producer.job)
        if row.stop == Stop.CANCEL:  # nobody else would see it
            return stages | transition(db, connection, row, State.CANCELLED, "asked")
        return stages | _requeue_by_inputs(
            db, connection, row, f"its input {unreadable[0].sha256} is damaged"
        )

    return db.run_transaction(requeue_all)


def _describe_missing_input(unreadable: UnreadableInput) -> str:
    return (
        f"its input {unreadable.role}, artifact {unreadable.sha256}, is lost and no job can "
        "rebuild it: submit the job again"
    )


def _link_input_to_producer(
    connection: Connection, job_id: str, role: str, sha256: str, producer_id: str
) -> None:
    """An input that was named by its digest comes from a job from now on: it can be waited for."""
    mine = (
        (job_inputs.c.job == job_id) & (job_inputs.c.role == role) & job_inputs.c.parent.is_(None)
    )
    produced_role = (
        select(job_artifacts.c.role)
        .where(job_artifacts.c.job == producer_id, job_artifacts.c.sha256 == sha256)
        .limit(1)
    )
    parent_role = func.coalesce(produced_role.scalar_subquery(), role)
    connection.execute(
        update(job_inputs).where(mine).values(parent=producer_id, parent_role=parent_role)
    )


def _requeue_producer(
    db: Database, connection: Connection, sha256: str, producer: Producer
) -> set[str]:
    row = lock_job(connection, producer.job)
    if row.state != State.SUCCEEDED or row.fence != producer.fence:
        return set()
    because = f"its artifact {sha256} is damaged"
    if _count_recent_rebuilds(db, connection, row.id) >= MAX_REBUILDS_PER_HOUR:
        raise Conflict(
            f"{because}, and job {row.id} has rebuilt it {MAX_REBUILDS_PER_HOUR} times within an "
            "hour: check the artifact store"
        )
    reset_values = {
        "finished_at": None,
        "started_at": None,
        "lost_count": 0,
        "reused_from": None,
        "progress": to_json({}),
    }
    stages = _requeue_by_inputs(db, connection, row, because, **reset_values)
    mine = select(job_inputs.c.job).where(job_inputs.c.parent == row.id)
    ready = select(jobs).where(jobs.c.id.in_(mine), jobs.c.state == State.QUEUED)
    for child in list(connection.execute(ready.order_by(jobs.c.id).with_for_update())):
        _requeue_by_inputs(db, connection, child, f"its input {sha256} is damaged")
    return stages


def _count_recent_rebuilds(db: Database, connection: Connection, job_id: str) -> int:
    """How often a job was queued for a rebuild in the last hour."""
    mine = (events.c.job == job_id) & (events.c.kind == "state") & (events.c.at > db.now - _HOUR_S)
    left_succeeded = events.c.data.contains('"from":"succeeded"', autoescape=True)
    return int(connection.execute(select(func.count()).where(mine, left_succeeded)).scalar_one())


def _requeue_by_inputs(
    db: Database, connection: Connection, row: Row[Any], because: str, **values: Any
) -> set[str]:
    """Move a locked job to the state that its inputs require: queued, waiting or failed. `values`
    are set as well."""
    failed = has_input_in(connection, row, states=UNSUCCESSFUL)
    if failed and row.run_when != RunWhen.ALL_FINISHED:
        return _fail_by_input(db, connection, row, because, **values)
    if has_input_in(connection, row, states=LIVE):
        return transition(db, connection, row, State.WAITING, because, **values)
    if failed and not has_input_in(connection, row, states=frozenset({State.SUCCEEDED})):
        return _fail_by_input(db, connection, row, because, **values)
    return (
        set()
        if row.state == State.QUEUED
        else transition(db, connection, row, State.QUEUED, because, **values)
    )


def _fail_by_input(
    db: Database, connection: Connection, row: Row[Any], because: str, **values: Any
) -> set[str]:
    stages: set[str] = set()
    if row.state != State.RUNNING:  # as any job whose input failed, it waited for it
        stages = transition(db, connection, row, State.WAITING, because, **values)
        row = lock_job(connection, row.id)
    why = f"{because}, and one of its own inputs has failed: retry that job first"
    return stages | transition(
        db,
        connection,
        row,
        State.FAILED,
        "an input failed",
        failure=Failure.INPUT_FAILED,
        message=why,
    )
