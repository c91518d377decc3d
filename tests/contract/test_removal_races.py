"""Two transactions that remove, or one that removes and one that uses, at the same moment: what
PostgreSQL lets run side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, func, select, true, update

from shared.jobs import audit_deletion, erasure, removal, tenant_erasure, uploads
from shared.jobs.tables import audits, deleted_artifacts, jobs
from tests.support.job_store import ALICE, BOB, JobStore, run_overlapping
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
        lambda c: audit_deletion._remove_batch(shelf.db, c, first),
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


def bring(shelf: Shelf, data: bytes, tenant: str) -> str:
    with shelf.artifacts.open_draft() as draft:
        draft.write(data)
        stored = draft.seal()
        uploads.record_upload(
            shelf.db, tenant, stored, "text/csv",
            lifetime_s=3600, quota_bytes=1 << 30, place=draft.place,
        )  # fmt: skip
    return stored.sha256


def delete_upload(shelf: Shelf, sha256: str) -> None:
    uploads.delete_upload(shelf.db, BOB, shelf.artifacts, sha256)


def erase_upload(shelf: Shelf, sha256: str) -> None:
    erasure.erase(shelf.db, BOB, shelf.artifacts, [sha256])


def erase_tenant(shelf: Shelf, _sha256: str) -> None:
    tenant_erasure.erase_tenant(shelf.db, BOB, shelf.artifacts)


@pytest.mark.parametrize("delete", [delete_upload, erase_upload, erase_tenant])
def test_bytes_go_when_their_last_two_rows_go_together(
    shelf: Shelf, delete: Callable[[Shelf, str], None]
) -> None:
    (job,) = shelf.submit("a", audit=False)
    sha256 = shelf.run(data=b"the same bytes")
    assert bring(shelf, b"the same bytes", BOB) == sha256
    run_overlapping(
        shelf.db,
        lambda c: removal.remove_unreferenced_jobs(shelf.db, c, ALICE, [job], true()),
        lambda: delete(shelf, sha256),
    )
    uploads.remove_deleted_bytes(shelf.db, shelf.artifacts)
    assert not shelf.has_bytes(sha256)
    assert count(shelf, deleted_artifacts) == 0
