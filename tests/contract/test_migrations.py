"""The schema that the migrations make is the schema that the code has in mind."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import MetaData, func, inspect, select, text

from services import admin
from shared.errors import Conflict, TransientError
from shared.jobs.database import Database
from shared.jobs.migrations import (
    copy_before_migrating,
    list_revisions,
    migrate,
    require_current_schema,
)
from shared.jobs.tables import artifacts, job_artifacts, metadata
from tests.support.job_store import JobStore, make_planned_job, run_together
from tests.support.servers import create_database
from tests.support.table_rows import fill_tables


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: Any, tmp_path: Path) -> Iterator[str]:
    """URL of a database without a schema."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/palimpsest.db"
    else:
        yield create_database(request.getfixturevalue("postgres_server"))


@pytest.fixture
def db(empty: str) -> Iterator[Database]:
    found = Database(empty)
    yield found
    found.close()


def test_the_migrations_make_the_tables_of_the_code(db: Database) -> None:
    migrate(db)
    with db.read() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == []
        found = inspect(connection)
        for table in metadata.sorted_tables:  # what compare_metadata does not look at
            foreign = {
                (column, f["referred_table"], f["options"].get("ondelete"))
                for f in found.get_foreign_keys(table.name)
                for column in f["constrained_columns"]
            }
            assert foreign == {
                (k.parent.name, k.column.table.name, k.ondelete) for k in table.foreign_keys
            }
            assert found.get_pk_constraint(table.name)["constrained_columns"] == [
                c.name for c in table.primary_key
            ]


def test_an_empty_store_is_refused_and_a_migrated_one_is_not(db: Database) -> None:
    with pytest.raises(
        Conflict, match=r"has schema None, this code needs .*services.admin migrate"
    ):
        require_current_schema(db)
    migrate(db)
    require_current_schema(db)


def test_a_newer_store_is_refused(db: Database) -> None:
    migrate(db)
    with db.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(Conflict, match="has schema 9999"):
        require_current_schema(db)


def test_migrating_twice_changes_nothing(db: Database) -> None:
    migrate(db)
    store = JobStore(db)
    store.post(make_planned_job("a"))
    before = store.dump()
    migrate(db)
    assert store.dump() == before


# tables that a revision does away with; a test of its own says where their rows went
GONE = {"0003": {"job_plugins"}}


def _counts(db: Database) -> dict[str, int]:
    schema = MetaData()
    with db.read() as connection:
        schema.reflect(connection)
        tables = [t for t in schema.sorted_tables if t.name != "alembic_version"]
        return {
            t.name: connection.execute(select(func.count()).select_from(t)).scalar_one()
            for t in tables
        }


@pytest.mark.parametrize("revision", list_revisions()[:-1])
def test_a_store_with_rows_in_every_table_keeps_them_all(db: Database, revision: str) -> None:
    migrate(db, revision)
    with db.write() as connection:
        before = fill_tables(connection)
    later = list_revisions()[list_revisions().index(revision) + 1 :]
    for step in later:
        migrate(db, step)
        for table in GONE.get(step, set()):
            before.pop(table, None)
        after = _counts(db)
        assert {table: after[table] for table in before} == before, step
    require_current_schema(db)


def test_what_a_job_needs_of_its_worker_survives_as_a_set(db: Database) -> None:
    """Before 0003 every job named its plugins row by row."""
    migrate(db, "0002")
    with db.write() as connection:
        fill_tables(connection)
        connection.execute(text("DELETE FROM job_plugins"))
        connection.execute(
            text("UPDATE jobs SET state = 'queued', stage = 'train', tenant = 'alice'")
        )
        for n in range(7):
            for plugin in {f"model:{'a' if n < 3 else 'b'}", "stage:train"}:
                row = {"job": f"{n}", "plugin": plugin}
                connection.execute(text("INSERT INTO job_plugins VALUES (:job, :plugin)"), row)
    migrate(db)
    store = JobStore(db)
    had = []
    while claim := store.claim(plugins=("stage:train", "model:b")):
        had.append(claim.job.id)
    assert sorted(had) == ["3", "4", "5", "6"]
    with db.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM plugin_sets")).scalar_one() == 2


def test_artifacts_get_an_owner_and_a_size_of_their_own(db: Database) -> None:
    """Before 0005 every job that made them had them row by row."""
    migrate(db, "0004")
    with db.write() as connection:
        fill_tables(connection)
        connection.execute(text("DELETE FROM job_artifacts"))
        connection.execute(text("UPDATE jobs SET finished_at = 10 - CAST(id AS integer)"))
        for job, tenant, sha256 in [
            ("3", "a", "x"),
            ("4", "a", "x"),
            ("5", "a", "y"),
            ("3", "b", "x"),
        ]:
            row = {"job": job, "role": f"OF_{tenant}", "tenant": tenant, "sha256": sha256}
            connection.execute(
                text(
                    "INSERT INTO job_artifacts VALUES (:job, :role, :tenant, :sha256, 5000000000, 'text/plain')"
                ),
                row,
            )
    migrate(db)
    with db.read() as connection:
        found = connection.execute(
            select(artifacts).order_by(artifacts.c.tenant, artifacts.c.sha256)
        ).all()
        links = connection.execute(select(func.count()).select_from(job_artifacts)).scalar_one()
    size, kind = 5_000_000_000, "text/plain"
    assert list(map(tuple, found)) == [
        ("a", "x", size, kind, "4", 6.0, None),
        ("a", "y", size, kind, "5", 5.0, None),
        ("b", "x", size, kind, "3", 7.0, None),
    ]
    assert links == 4


def test_a_change_of_schema_that_leaves_rows_without_what_they_refer_to_is_undone(
    tmp_path: Path,
) -> None:
    db = Database(f"sqlite:///{tmp_path}/palimpsest.db")
    migrate(db)
    store = JobStore(db)
    store.post(make_planned_job("a"))
    before = store.dump()
    with pytest.raises(Conflict, match="rows of events"), db.change_schema() as connection:
        connection.execute(text("DELETE FROM jobs"))
    assert store.dump() == before
    # they are enforced again
    with pytest.raises(Exception, match="FOREIGN KEY"), db.write() as connection:
        connection.execute(text("INSERT INTO events VALUES ('nobody', 1, 0, 'state', '{}')"))


def test_a_file_is_copied_before_it_is_migrated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path}/palimpsest.db"
    db = Database(url)
    assert copy_before_migrating(db) is None  # nothing there yet
    migrate(db, list_revisions()[-2])
    with db.write() as connection:
        before = fill_tables(connection)
    db.close()
    monkeypatch.setenv("PALIMPSEST_DATABASE_URL", url)
    assert admin.main(["migrate"]) == 0
    name = f"palimpsest.db.{list_revisions()[-2]}.copy"
    assert name in capsys.readouterr().out
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    copied = Database(f"sqlite:///{tmp_path}/{name}")
    assert _counts(copied) == before
    copied.close()
    assert copy_before_migrating(Database(url)) is None  # it is the newest


def test_two_that_migrate_at_once_take_turns(empty: str) -> None:
    ours, theirs = Database(empty), Database(empty)
    assert run_together(lambda: migrate(ours), lambda: migrate(theirs)) == [None, None]
    require_current_schema(ours)
    ours.close()
    theirs.close()


def test_many_that_open_a_new_file_at_once_all_get_in(tmp_path: Path) -> None:
    """SQLite answers 'locked' at once to the second that switches a new file to its write-ahead
    log."""
    for n in range(40):
        stores = [Database(f"sqlite:///{tmp_path}/{n}.db") for _ in range(4)]

        def opened(store: Database) -> None:
            with store.write():
                pass

        assert run_together(*(partial(opened, store) for store in stores)) == [None] * 4
        for store in stores:
            store.close()


def test_a_server_that_only_reads_at_the_moment_is_away_and_not_broken(
    request: pytest.FixtureRequest,
) -> None:
    db = Database(create_database(request.getfixturevalue("postgres_server")))
    migrate(db)

    def write_where_nothing_may_be_written() -> None:
        with db.write() as connection:
            connection.execute(text("SET TRANSACTION READ ONLY"))
            connection.execute(text("DELETE FROM jobs"))

    with pytest.raises(TransientError, match="read-only"):
        write_where_nothing_may_be_written()
    db.close()
