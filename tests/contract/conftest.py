"""The three job stores. Each test gets an empty one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.jobs.database import Database
from shared.jobs.migrations import migrate
from shared.jobs.tables import metadata
from tests.support.job_store import JobStore
from tests.support.servers import create_database

KINDS = ["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.slow)]


@pytest.fixture(scope="session")
def postgres_store(postgres_server: str) -> Iterator[JobStore]:
    """A migrated PostgreSQL, one for all tests: each test clears it first."""
    db = Database(create_database(postgres_server))
    migrate(db)
    yield JobStore(db)
    db.close()


@pytest.fixture(params=KINDS)
def store(request: Any, tmp_path: Path) -> Iterator[JobStore]:
    """An empty job store of each kind."""
    if request.param == "postgresql":
        found: JobStore = request.getfixturevalue("postgres_store")
        found.clear()
        yield found
        return
    db = Database(
        "sqlite://" if request.param == "memory" else f"sqlite:///{tmp_path}/palimpsest.db"
    )
    with db.write() as connection:
        metadata.create_all(connection)
    yield JobStore(db)
    db.close()
