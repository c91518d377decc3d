"""Freezing processes that use the job store, without freezing the store for everyone else."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator

import psutil

from shared.jobs.database import Database
from tests.support.waiting import TIMEOUT_S, wait_for

_ENDS_WITHIN_S = (
    2.0  # a transaction of a process that runs; one that does not may be a frozen one's
)


@contextlib.contextmanager
def freeze(process: psutil.Process, db: Database) -> Iterator[None]:
    """SIGSTOP for the process and its descendants, SIGCONT at the end, whatever happens between.

    Whoever is stopped in the middle of a transaction keeps its locks: on SQLite nobody else could
    write. So it is stopped between two transactions, tried until it is.
    """
    family = [process, *process.children(recursive=True)]

    def stop() -> bool:
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.suspend()
        wait_for(lambda: all(_is_stopped(m) for m in family), TIMEOUT_S, "they are stopped")
        deadline = time.monotonic() + _ENDS_WITHIN_S
        while _is_transaction_open(db):
            if time.monotonic() > deadline:
                _resume(family)
                return False
            time.sleep(0.01)
        return True

    try:
        wait_for(stop, TIMEOUT_S, "the processes are stopped between two transactions")
        yield
    finally:
        _resume(family)


def _resume(family: list[psutil.Process]) -> None:
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.resume()


def _is_stopped(process: psutil.Process) -> bool:
    try:
        return process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _is_transaction_open(db: Database) -> bool:
    """Whether a process holds SQLite's write lock, or has an open transaction in PostgreSQL."""
    if db.dialect == "postgresql":
        with db.read() as connection:
            count = connection.exec_driver_sql(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"
            )
            return bool(count.scalar_one())
    connection = sqlite3.connect(str(db.file), timeout=0)
    with contextlib.closing(connection):
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:  # it is locked
            return True
        connection.execute("ROLLBACK")
        return False
