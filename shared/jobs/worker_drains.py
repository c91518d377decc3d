"""Workers that an operator has drained.

A worker's `drain` flag says that it takes no job and gives back the one it has, be it because it
shuts down or because an operator wants it so. That an operator does, a row of `drained_workers`
says, by the worker's name: a worker that is started again under it takes no job either. Where the
name is that of a process, the mark goes with the process (`shared.jobs.worker_registry`).
"""

from __future__ import annotations

import json
from functools import partial

from sqlalchemy import Connection, delete, select, update

from shared.errors import NotFound
from shared.jobs.database import Database
from shared.jobs.locks import lock_name
from shared.jobs.tables import drained_workers, workers


def drain_worker(db: Database, worker: str) -> None:
    """Have a worker give its job back and take no other until `undrain_worker`. Idempotent.

    Raises:
        NotFound: no worker of this name was seen within the hour.
    """

    def mark(connection: Connection) -> None:
        lock_name(db, connection, f"worker {worker}")
        updated = connection.execute(
            update(workers).where(workers.c.id == worker).values(drain=True)
        )
        if not updated.rowcount and not _is_marked(connection, worker):
            raise NotFound(f"there is no worker {worker}")
        row = {"id": worker, "drained_at": db.now}
        connection.execute(db.insert(drained_workers).values(**row).on_conflict_do_nothing())

    db.run_transaction(mark)


def undrain_worker(db: Database, worker: str) -> set[str]:
    """Let a drained worker take jobs again, unless it is shutting down; returns the stages to wake.
    Idempotent.

    Raises:
        NotFound: no worker of this name was seen within the hour, and none is drained.
    """

    return db.run_transaction(partial(_unmark, db, worker))


def _unmark(db: Database, worker: str, connection: Connection) -> set[str]:
    lock_name(db, connection, f"worker {worker}")  # as who registers it does
    marked = connection.execute(delete(drained_workers).where(drained_workers.c.id == worker))
    stages = connection.execute(
        update(workers)
        .where(workers.c.id == worker)
        .values(drain=workers.c.leaving)
        .returning(workers.c.stages)
    ).scalar_one_or_none()
    if stages is None and not marked.rowcount:
        raise NotFound(f"there is no worker {worker}")
    return set(json.loads(stages)) if stages else set()


def is_drained(db: Database, worker: str) -> bool:
    """Whether an operator keeps this worker from taking jobs, and it is not shutting down."""
    query = select(workers.c.id).where(workers.c.id == worker, workers.c.drain, ~workers.c.leaving)
    with db.read() as connection:
        return connection.execute(query).first() is not None


def find_drained_at(db: Database, worker: str) -> float | None:
    """When an operator has drained a worker, running or not; None: none has."""
    query = select(drained_workers.c.drained_at).where(drained_workers.c.id == worker)
    with db.read() as connection:
        return connection.execute(query).scalar_one_or_none()


def _is_marked(connection: Connection, worker: str) -> bool:
    query = select(drained_workers.c.id).where(drained_workers.c.id == worker)
    return connection.execute(query).first() is not None
