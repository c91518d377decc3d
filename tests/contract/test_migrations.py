"""The schema that the migrations make is the schema that the code has in mind."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect

from shared.errors import Conflict
from shared.jobs.database import Database
from shared.jobs.migrations import migrate, require_current
from shared.jobs.tables import metadata
from tests.support.jobs import Store, planned, together
from tests.support.servers import fresh_database


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: Any, tmp_path: Path) -> Iterator[str]:
    """URL of a database without a schema."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/palimpsest.db"
    else:
        yield fresh_database(request.getfixturevalue("postgres_server"))


@pytest.fixture
def db(empty: str) -> Iterator[Database]:
    found = Database(empty)
    yield found
    found.close()


def test_the_migrations_make_the_tables_of_the_code(db: Database) -> None:
    migrate(db)
    with db.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
        found = inspect(connection)
        for table in metadata.sorted_tables:  # what compare_metadata does not look at
            foreign = {
                (f["constrained_columns"][0], f["referred_table"], f["options"].get("ondelete"))
                for f in found.get_foreign_keys(table.name)
            }
            assert foreign == {(k.parent.name, k.column.table.name, k.ondelete) for k in table.foreign_keys}
            assert found.get_pk_constraint(table.name)["constrained_columns"] == [c.name for c in table.primary_key]


def test_an_empty_store_is_refused_and_a_migrated_one_is_not(db: Database) -> None:
    with pytest.raises(Conflict, match=r"has schema None, this code needs .*services.admin migrate"):
        require_current(db)
    migrate(db)
    require_current(db)


def test_a_newer_store_is_refused(db: Database) -> None:
    migrate(db)
    with db.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(Conflict, match="has schema 9999"):
        require_current(db)


def test_migrating_twice_changes_nothing(db: Database) -> None:
    migrate(db)
    store = Store(db)
    store.post(planned("a"))
    before = store.dump()
    migrate(db)
    assert store.dump() == before


def test_two_that_migrate_at_once_take_turns(empty: str) -> None:
    ours, theirs = Database(empty), Database(empty)
    assert together(lambda: migrate(ours), lambda: migrate(theirs)) == [None, None]
    require_current(ours)
    ours.close()
    theirs.close()


def test_many_that_open_a_new_file_at_once_all_get_in(tmp_path: Path) -> None:
    """SQLite answers 'locked' at once to the second that switches a new file to its write-ahead log."""
    for n in range(40):
        stores = [Database(f"sqlite:///{tmp_path}/{n}.db") for _ in range(4)]

        def opened(store: Database) -> None:
            with store.write():
                pass

        assert together(*(partial(opened, store) for store in stores)) == [None] * 4
        for store in stores:
            store.close()
