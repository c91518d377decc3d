"""Two transactions that remove, or one that removes and one that uses, at the same moment: what
PostgreSQL lets run side by side."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, func, select, update

from shared.jobs import audit_deletion
from shared.jobs.tables import audits, jobs
from tests.support.job_store import ALICE, JobStore, run_overlapping
from tests.support.retention import Shelf

pytestmark = pytest.mark.slow


@pytest.fixture
def shelf(postgres_store: JobStore) -> Shelf:
    postgres_store.clear()
    return Shelf(postgres_store)


def count(shelf: Shelf, table: Any) -> int:
    with shelf.db.read() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def test_a_job_that_two_audits_share_goes_with_the_later_of_two_deletions(shelf: Shelf) -> None:
    _, first = shelf.submit("common")
    shelf.run()
    *_, other = shelf.submit("common", "more")
    shelf.run()
    with shelf.db.write() as connection:
        connection.execute(update(audits).where(audits.c.id == first).values(deleting=True))
    run_overlapping(
        shelf.db,
        lambda c: audit_deletion._remove_batch(c, first),
        lambda: audit_deletion.delete_audit(shelf.db, ALICE, shelf.artifacts, other),
    )
    assert [count(shelf, table) for table in (audits, jobs)] == [0, 0]


def test_a_deletion_waits_for_who_holds_its_jobs(shelf: Shelf) -> None:
    job, audit = shelf.submit("a")
    shelf.run()

    def hold(connection: Connection) -> None:
        connection.execute(select(jobs.c.id).where(jobs.c.id == job).with_for_update()).all()

    run_overlapping(
        shelf.db,
        hold,
        lambda: audit_deletion.delete_audit(shelf.db, ALICE, shelf.artifacts, audit),
    )
    assert [count(shelf, table) for table in (audits, jobs)] == [0, 0]
