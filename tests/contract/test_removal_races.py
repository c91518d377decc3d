"""Two transactions that remove, or one that removes and one that uses, at the same moment: what
PostgreSQL lets run side by side."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import pytest
from sqlalchemy import Connection, func, insert, select, true, update

from shared.jobs import (
    audit_deletion,
    completion,
    erasure,
    removal,
    tenant_erasure,
    tenants,
    uploads,
)
from shared.jobs.records import Artifact
from shared.jobs.tables import artifacts, audits, deleted_artifacts, jobs
from tests.support.job_store import ALICE, BOB, CODE_DIGEST, JobStore, run_overlapping
from tests.support.retention import Shelf
from tests.support.waiting import TIMEOUT_S

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


def test_a_job_that_ends_while_its_bytes_are_taken_stores_them_again(shelf: Shelf) -> None:
    """It stored them when they were there; then they went with an older job."""
    data, db, store = b"what two jobs make", shelf.db, shelf.artifacts
    sha256 = store.put(data)
    with db.write() as connection:
        connection.execute(insert(deleted_artifacts).values(sha256=sha256))
    (job,) = shelf.submit("a", audit=False)
    claim = shelf.jobs.claim_one()
    made = Artifact("OUT", store.put(data), len(data), "text/plain")

    def put_missing() -> None:
        if not store.has(made.sha256, made.size):
            store.put(data)

    run_overlapping(
        db,
        lambda c: uploads._remove_noted_bytes(db, store, [sha256], c),
        lambda: completion.finish_job(
            db, job, claim.fence, [made], cache_key="k", code=CODE_DIGEST, put_missing=put_missing
        ),
    )
    assert shelf.has_bytes(sha256)
    assert shelf.jobs.list_states(job) == ["succeeded"]


def test_bytes_of_a_job_that_is_about_to_end_are_not_taken(shelf: Shelf) -> None:
    data, db, store = b"what two jobs make", shelf.db, shelf.artifacts
    sha256 = store.put(data)
    (job,) = shelf.submit("a", audit=False)
    claim = shelf.jobs.claim_one()
    made = Artifact("OUT", sha256, len(data), "text/plain")
    with db.write() as connection:
        connection.execute(insert(deleted_artifacts).values(sha256=sha256))

    with ThreadPoolExecutor(1) as pool:
        removing = list[Future[None]]()

        def put_missing() -> None:
            assert store.has(made.sha256, made.size)
            removing.append(pool.submit(uploads.remove_deleted_bytes, db, store))
            wait([removing[0]], timeout=0.2)  # it gets as far as it can before the job has ended

        completion.finish_job(
            db, job, claim.fence, [made], cache_key="k", code=CODE_DIGEST, put_missing=put_missing
        )
        removing[0].result(TIMEOUT_S)
    assert shelf.has_bytes(sha256)


def test_who_disables_a_tenant_waits_for_what_it_is_storing(shelf: Shelf) -> None:
    db = shelf.db
    tenants.ensure_tenant(db, ALICE)

    def store(connection: Connection) -> None:
        tenants.require_enabled(connection, ALICE)
        row = {"tenant": ALICE, "sha256": "0" * 64, "size": 1, "media_type": "text/csv"}
        connection.execute(insert(artifacts).values(**row, origin="upload", created_at=1.0))

    def disable() -> int:
        tenants.disable_tenant(db, ALICE, has_token=True)
        return count(shelf, artifacts)

    assert run_overlapping(db, store, disable) == 1
