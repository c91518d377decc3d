"""Transactions, retries and the database's clock."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import IntegrityError

from shared.errors import Conflict, InvalidRequest, TransientError
from shared.jobs.database import Database
from shared.jobs.tables import catalogs, events, metadata

NOWHERE = "postgresql+psycopg://nobody@127.0.0.1:1/nothing"


@pytest.fixture(params=["memory", "file"])
def db(request: Any, tmp_path: Path) -> Iterator[Database]:
    found = Database(
        "sqlite://" if request.param == "memory" else f"sqlite:///{tmp_path}/deep/palimpsest.db"
    )
    with found.write() as connection:
        metadata.create_all(connection)
    yield found
    found.close()


def add(connection: Connection, digest: str) -> None:
    connection.execute(insert(catalogs).values(digest=digest, body="", published_at=0.0))


def digests(db: Database) -> list[str]:
    with db.read() as connection:
        return sorted(connection.execute(select(catalogs.c.digest)).scalars())


def test_a_transaction_is_whole_or_nothing(db: Database) -> None:
    def breaks() -> None:
        with db.write() as connection:
            add(connection, "a")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        breaks()
    assert digests(db) == []
    db.run_transaction(lambda c: add(c, "b"))
    assert digests(db) == ["b"]


def test_the_clock_is_the_databases_in_seconds(db: Database) -> None:
    with db.read() as connection:
        assert connection.execute(select(db.now)).scalar_one() == pytest.approx(time.time(), abs=5)


def test_foreign_keys_hold(db: Database) -> None:
    with pytest.raises(IntegrityError), db.write() as connection:
        connection.execute(
            insert(events).values(job="job_of_nobody", seq=1, at=0.0, kind="state", data="{}")
        )


def test_a_commit_survives_a_power_cut(db: Database) -> None:
    with db.read() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL


def test_a_reader_keeps_its_view_while_another_writes(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path}/palimpsest.db")
    with db.write() as connection:
        metadata.create_all(connection)
    with db.read() as reader:
        assert reader.execute(select(catalogs)).all() == []
        db.run_transaction(lambda c: add(c, "a"))
        assert reader.execute(select(catalogs)).all() == []
    assert digests(db) == ["a"]
    db.close()


def losing(times: int, message: str) -> tuple[Callable[[Connection], str], list[str]]:
    """Work that fails the first `times` times, and what it wrote each time."""
    tried: list[str] = []

    def work(connection: Connection) -> str:
        tried.append(f"try {len(tried)}")
        add(connection, tried[-1])
        if len(tried) <= times:
            raise TransientError(message)
        return "done"

    return work, tried


@pytest.mark.parametrize(
    "message", ["database is locked", "deadlock detected", "could not serialize access"]
)
def test_work_that_lost_a_race_for_locks_is_done_again(db: Database, message: str) -> None:
    work, tried = losing(2, message)
    assert db.run_transaction(work) == "done"
    assert len(tried) == 3
    assert digests(db) == ["try 2"]  # nothing is left of the tries that lost


def test_work_that_always_loses_is_given_up(db: Database) -> None:
    work, tried = losing(99, "database is locked")
    with pytest.raises(TransientError):
        db.run_transaction(work, tries=3)
    assert len(tried) == 3


def test_other_errors_are_not_tried_again(db: Database) -> None:
    work, tried = losing(1, "the job store did not answer: disk I/O error")
    with pytest.raises(TransientError):
        db.run_transaction(work)
    assert len(tried) == 1


def test_a_database_that_is_not_there_is_a_transient_error() -> None:
    db = Database(NOWHERE)  # nothing connects yet
    for use in (db.read, db.write):
        with pytest.raises(TransientError, match="the job store did not answer"), use():
            raise AssertionError("there is nothing to talk to")
    with pytest.raises(TransientError):
        db.run_transaction(lambda c: None)
    db.close()


def modes(folder: Path) -> dict[str, str]:
    return {path.name: oct(path.stat().st_mode & 0o777) for path in sorted(folder.iterdir())}


@pytest.fixture
def wide() -> Iterator[None]:
    """A process that gives everybody everything."""
    before = os.umask(0)
    yield
    os.umask(before)


FILES = ("palimpsest.db", "palimpsest.db-shm", "palimpsest.db-wal")


@pytest.mark.usefixtures("wide")
def test_nobody_else_reads_the_database(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path}/deep/er/palimpsest.db")
    with db.write() as connection:
        metadata.create_all(connection)
        assert modes(tmp_path / "deep/er") == dict.fromkeys(FILES, "0o600")
    assert oct((tmp_path / "deep/er").stat().st_mode & 0o777) == "0o700"
    db.close()


@pytest.mark.usefixtures("wide")
def test_a_database_of_before_is_made_private_and_keeps_what_it_holds(tmp_path: Path) -> None:
    """With what a killed process left beside it, while another has it open."""
    url = f"sqlite:///{tmp_path}/palimpsest.db"
    dies = (
        "import os; from shared.jobs.database import Database; from shared.jobs.tables import metadata; "
        f"db = Database({url!r}); connection = db.engine.connect(); metadata.create_all(connection); "
        "connection.exec_driver_sql(\"INSERT INTO catalogs VALUES ('old', '', 0)\"); connection.commit(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", dies], check=True)
    assert modes(tmp_path).keys() == set(FILES)
    one = Database(url)
    with one.write() as connection:
        add(connection, "locked")
        for name in FILES:
            (tmp_path / name).chmod(0o666)
        tmp_path.chmod(0o755)
        other = Database(url)
        assert digests(other) == ["old"]
        assert modes(tmp_path) == dict.fromkeys(FILES, "0o600")
        # a folder that we did not make is its owner's
        assert oct(tmp_path.stat().st_mode & 0o777) == "0o755"
        other.engine.dispose()
        locked = (
            f"import sqlite3; c = sqlite3.connect({str(tmp_path / 'palimpsest.db')!r}, timeout=0.1); "
            "c.execute('BEGIN IMMEDIATE')"
        )
        done = subprocess.run(
            [sys.executable, "-c", locked], capture_output=True, text=True, check=False
        )
        assert "database is locked" in done.stderr  # our write lock was not given up
    assert digests(one) == ["locked", "old"]
    one.close()


def test_a_database_that_cannot_be_made_is_a_transient_error(tmp_path: Path) -> None:
    (tmp_path / "palimpsest.db").mkdir()
    db = Database(f"sqlite:///{tmp_path}/palimpsest.db")
    with pytest.raises(TransientError, match="unable to open"), db.read():
        raise AssertionError("there is nothing to talk to")
    assert modes(tmp_path).keys() == {"palimpsest.db"}


def test_the_url_says_that_a_pooler_stands_before_the_server() -> None:
    pooled = Database(f"{NOWHERE}?pooler=transaction")
    assert pooled.is_pooled
    assert not pooled.url.query  # PostgreSQL does not know this option
    with (
        pytest.raises(Conflict, match="a connection of its own"),
        pooled.connect_outside_transaction(),
    ):
        pass
    assert not Database(NOWHERE).is_pooled
    with pytest.raises(InvalidRequest, match="may only be transaction"):
        Database(f"{NOWHERE}?pooler=session")
