"""The three job stores. Each test gets an empty one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.jobs.database import Database
from shared.jobs.migrations import migrate
from tests.support.job_store import JobStore
from tests.support.migrated import open_in_memory, open_migrated
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
    db = (
        open_in_memory() if request.param == "memory" else open_migrated(tmp_path / "palimpsest.db")
    )
    yield JobStore(db)
    db.close()
