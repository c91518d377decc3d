"""Quotas of tenants in the job store: what waits, what runs, what is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shared.artifacts import ArtifactStore
from shared.errors import QuotaReached
from shared.jobs import control, queries, uploads
from shared.jobs.monitoring import read_inventory
from shared.jobs.quotas import StorageFull, load_quotas
from shared.jobs.records import Claim
from shared.jobs.submit import AuditRequest, IdempotencyKey
from shared.jobs.tenants import create_tenant, set_quotas
from tests.support.job_store import ALICE, BOB, JobStore, make_planned_job, run_together
from tests.support.retention import Shelf


def limit(store: JobStore, **quotas: int | None) -> None:
    """Give alice these quotas."""
    if not load_all(store):
        create_tenant(store.db, ALICE)
    set_quotas(store.db, ALICE, quotas)


def load_all(store: JobStore) -> list[Any]:
    return store.dump()["tenants"]


def test_nothing_of_an_audit_is_stored_that_would_wait_too_long(store: JobStore) -> None:
    limit(store, max_queued_jobs=500)
    first = store.post(make_planned_job("first"))
    before = store.dump()
    planned = [make_planned_job(f"{n}") for n in range(500)]
    key = IdempotencyKey("key", "body")
    with pytest.raises(QuotaReached, match="at most 500 of your jobs may wait"):
        store.submit(*planned, audit=AuditRequest("audit", {}), idempotency_key=key)
    assert store.dump() == before
    control.cancel_job(store.db, ALICE, first)
    accepted = store.submit(*planned, audit=AuditRequest("audit", {}), idempotency_key=key)
    assert len(accepted.created) == 500
    # what exists is shared, and what was answered is answered again
    assert not store.submit(*planned, audit=AuditRequest("again", {})).created
    assert store.submit(*planned, audit=AuditRequest("audit", {}), idempotency_key=key).replayed
    store.post(make_planned_job("another's"), tenant=BOB)


def test_what_runs_and_what_has_ended_does_not_wait(store: JobStore) -> None:
    limit(store, max_queued_jobs=2)
    child_of = make_planned_job("parent")
    store.submit(child_of, make_planned_job("child", child_of))
    with pytest.raises(QuotaReached):
        store.post(make_planned_job("third"))
    claim = store.claim_one()
    third = store.post(make_planned_job("third"))
    store.finish(claim)
    control.pause_job(store.db, ALICE, third)
    with pytest.raises(QuotaReached):
        store.post(make_planned_job("fourth"))
    limit(store, max_queued_jobs=None)
    store.post(make_planned_job("fourth"))


def test_submissions_at_one_moment_do_not_pass_together(store: JobStore) -> None:
    limit(store, max_queued_jobs=3)
    calls = [lambda n=n: store.post(make_planned_job(f"{n}")) for n in range(8)]
    done = run_together(*calls)
    assert sum(isinstance(one, QuotaReached) for one in done) == 5
    assert len(queries.list_jobs(store.db, ALICE).items) == 3


def test_a_tenant_runs_no_more_jobs_than_it_may(store: JobStore) -> None:
    limit(store, max_running_jobs=2)
    for n in range(5):
        store.post(make_planned_job(f"{n}"))
    claims = [store.claim(f"w{n}") for n in range(3)]
    assert [claim is not None for claim in claims] == [True, True, False]
    bobs = store.post(make_planned_job("bob's"), tenant=BOB)
    assert store.claim_one("w3").job.id == bobs
    assert claims[0] is not None
    store.finish(claims[0])
    assert store.claim_one("w0").job.tenant == ALICE
    limit(store, max_running_jobs=0)
    assert store.claim("w4") is None
    limit(store, max_running_jobs=None)
    assert store.claim_one("w4").job.tenant == ALICE


def test_claims_at_one_moment_do_not_pass_together(store: JobStore) -> None:
    limit(store, max_running_jobs=1)
    for n in range(8):
        store.post(make_planned_job(f"{n}"))
    for _ in range(4):
        done = run_together(*[lambda n=n: store.claim(f"w{n}") for n in range(8)])
        claims = [one for one in done if isinstance(one, Claim)]
        assert len(claims) == 1, done
        assert done.count(None) == 7, done
        store.finish(claims[0])


def bring(store: JobStore, folder: ArtifactStore, data: bytes) -> None:
    with folder.open_draft() as draft:
        draft.write(data)
        uploads.record_upload(
            store.db, ALICE, draft.seal(), "text/csv",
            lifetime_s=60, quota_bytes=1 << 20, place=draft.place,
        )  # fmt: skip


def test_results_and_uploads_share_the_bytes(store: JobStore, tmp_path: Path) -> None:
    folder = ArtifactStore.from_url(f"file://{tmp_path}/artifacts")
    limit(store, max_artifact_bytes=10)
    store.run_job("12345")
    with pytest.raises(StorageFull, match="hold 5"):
        bring(store, folder, b"123456")
    bring(store, folder, b"54321")
    with pytest.raises(StorageFull, match="hold 10 of at most 10 bytes"):
        store.post(make_planned_job("more"))
    assert store.post(make_planned_job("12345"))  # it exists
    limit(store, max_artifact_bytes=11)
    store.run_job("more than that")  # what runs is kept
    assert load_quotas(store.db, BOB).max_artifact_bytes is None


def test_what_has_expired_takes_no_room(store: JobStore) -> None:
    shelf = Shelf(store)
    shelf.submit("attack")
    shelf.run("RECONSTRUCTION", b"1234567890")
    limit(store, max_artifact_bytes=10)
    with pytest.raises(StorageFull, match="hold 10"):
        store.post(make_planned_job("more"))
    assert read_inventory(store.db).artifacts["job"] == (1, 10)
    shelf.collect_on(31)
    shelf.set_day(0)
    assert read_inventory(store.db).artifacts["job"] == (0, 0)
    assert store.post(make_planned_job("more"))


def test_what_has_expired_needs_room_to_come_back(store: JobStore, tmp_path: Path) -> None:
    folder = ArtifactStore.from_url(f"file://{tmp_path}/artifacts")
    shelf = Shelf(store)
    shelf.submit("attack")
    shelf.run("RECONSTRUCTION", b"1234567890")
    shelf.collect_on(31)
    shelf.set_day(0)
    limit(store, max_artifact_bytes=9)
    with pytest.raises(StorageFull, match="hold 0"):
        bring(store, folder, b"1234567890")
    limit(store, max_artifact_bytes=10)
    bring(store, folder, b"1234567890")
