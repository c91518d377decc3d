"""Uploads in the job store and the artifact store together: counted, deleted, expired, raced."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select, update

from shared.artifacts import ArtifactStore, compute_sha256
from shared.errors import Conflict, NotFound, TransientError
from shared.jobs import control, queries, uploads
from shared.jobs.records import Input
from shared.jobs.retention import Retention
from shared.jobs.tables import artifacts, deleted_artifacts
from shared.jobs.uploads import QuotaExceeded, Upload
from tests.support.job_store import ALICE, BOB, JobStore, make_planned_job, run_together
from tests.support.retention import make_collector

HOUR_S = 3600.0


@pytest.fixture
def folder(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore.from_url(f"file://{tmp_path}/artifacts")


def bring(
    store: JobStore,
    folder: ArtifactStore,
    data: bytes,
    tenant: str = ALICE,
    quota: int = 1 << 20,
    lifetime_s: float = HOUR_S,
) -> tuple[Upload, bool]:
    with folder.open_draft() as draft:
        draft.write(data)
        return uploads.record_upload(
            store.db, tenant, draft.seal(), "text/csv",
            lifetime_s=lifetime_s, quota_bytes=quota, place=draft.place,
        )  # fmt: skip


def delete(store: JobStore, folder: ArtifactStore, data: bytes, tenant: str = ALICE) -> None:
    uploads.delete_upload(store.db, tenant, folder, compute_sha256(data))


def expire(store: JobStore, folder: ArtifactStore) -> list[str]:
    """What has gone, with its bytes."""
    removed, _ = uploads.expire_uploads(store.db)
    uploads.remove_deleted_bytes(store.db, folder)
    return removed


def list_digests(store: JobStore, tenant: str = ALICE) -> list[str]:
    return [one.sha256 for one in uploads.list_uploads(store.db, tenant).items]


def count_deleted(store: JobStore) -> int:
    with store.db.read() as connection:
        return len(connection.execute(select(deleted_artifacts)).all())


def test_uploads_are_listed_newest_first_in_pages(store: JobStore, folder: ArtifactStore) -> None:
    brought = [bring(store, folder, f"{n}".encode())[0].sha256 for n in range(5)]
    first = uploads.list_uploads(store.db, ALICE, limit=3)
    second = uploads.list_uploads(store.db, ALICE, limit=3, page=first.next)
    both = [*first.items, *second.items]
    assert sorted(one.sha256 for one in both) == sorted(brought)
    assert [one.created_at for one in both] == sorted(
        (one.created_at for one in both), reverse=True
    )
    assert second.next is None
    assert uploads.measure_uploads(store.db, ALICE) == 5
    assert list_digests(store, BOB) == []


def test_bytes_are_counted_once_and_kept_longer_when_they_come_again(
    store: JobStore, folder: ArtifactStore
) -> None:
    first, is_new = bring(store, folder, b"data", lifetime_s=10)
    again, is_new_again = bring(store, folder, b"data", quota=4, lifetime_s=1000)
    assert (is_new, is_new_again) == (True, False)
    assert again.expires_at is not None
    assert first.expires_at is not None
    assert again.expires_at > first.expires_at + 900
    with pytest.raises(QuotaExceeded, match="hold 4 bytes; 4 are used"):
        bring(store, folder, b"more", quota=4)
    assert not folder.has(compute_sha256(b"more"), 4)
    bring(store, folder, b"more", tenant=BOB, quota=4)


def test_uploads_at_the_same_moment_stay_within_the_quota(
    store: JobStore, folder: ArtifactStore
) -> None:
    results = run_together(
        *[lambda n=n: bring(store, folder, bytes([n]) * 300, quota=1000) for n in range(6)]
    )
    assert sum(isinstance(one, QuotaExceeded) for one in results) == 3
    assert uploads.measure_uploads(store.db, ALICE) == 900


def test_a_deletion_leaves_the_bytes_of_others(store: JobStore, folder: ArtifactStore) -> None:
    bring(store, folder, b"data")
    bring(store, folder, b"data", tenant=BOB)
    delete(store, folder, b"data")
    assert folder.has(compute_sha256(b"data"), 4)
    with pytest.raises(NotFound):
        delete(store, folder, b"data")
    delete(store, folder, b"data", BOB)
    assert not folder.has(compute_sha256(b"data"), 4)
    assert count_deleted(store) == 0


def test_what_a_live_job_needs_stays(store: JobStore, folder: ArtifactStore) -> None:
    upload, _ = bring(store, folder, b"data", lifetime_s=HOUR_S)
    planned = make_planned_job("reader", Input("IN", sha256=upload.sha256))
    job = store.post(planned)
    with pytest.raises(Conflict, match=job):
        delete(store, folder, b"data")
    with store.db.write() as connection:
        connection.execute(update(artifacts).values(expires_at=store.db.now - 1))
    assert expire(store, folder) == []
    control.cancel_job(store.db, ALICE, job)
    assert expire(store, folder) == [upload.sha256]
    assert not folder.has(upload.sha256, 4)
    with pytest.raises(NotFound):
        queries.get_artifact(store.db, ALICE, upload.sha256)


def test_only_what_has_expired_is_removed(store: JobStore, folder: ArtifactStore) -> None:
    old, _ = bring(store, folder, b"old")
    bring(store, folder, b"new")
    with store.db.write() as connection:
        connection.execute(
            update(artifacts)
            .where(artifacts.c.sha256 == old.sha256)
            .values(expires_at=store.db.now - 1)
        )
    assert list_digests(store) == [compute_sha256(b"new")]
    assert expire(store, folder) == [old.sha256]
    assert expire(store, folder) == []
    assert not folder.has(old.sha256, 3)
    assert folder.has(compute_sha256(b"new"), 3)


class StoreAway(ArtifactStore):
    """A store that does not answer to deletions."""

    def delete(self, sha256: str) -> None:
        raise TransientError(f"{sha256} could not be deleted")


def test_a_deletion_that_the_store_missed_is_made_up_for(
    store: JobStore, folder: ArtifactStore
) -> None:
    bring(store, folder, b"data")
    away = StoreAway(folder._backend, folder._folder)
    with pytest.raises(TransientError):
        delete(store, away, b"data")
    assert list_digests(store) == []
    assert count_deleted(store) == 1
    uploads.remove_deleted_bytes(store.db, folder)
    assert not folder.has(compute_sha256(b"data"), 4)
    assert count_deleted(store) == 0


def test_what_was_brought_again_before_its_bytes_went_stays(
    store: JobStore, folder: ArtifactStore
) -> None:
    bring(store, folder, b"data")
    with pytest.raises(TransientError):
        delete(store, StoreAway(folder._backend, folder._folder), b"data")
    bring(store, folder, b"data")
    uploads.remove_deleted_bytes(store.db, folder)
    assert folder.get(compute_sha256(b"data")) == b"data"


def test_uploads_and_deletions_of_the_same_bytes_may_race(
    store: JobStore, folder: ArtifactStore
) -> None:
    """Whoever wins: a row has its bytes, and bytes without a row are gone."""
    sha256 = compute_sha256(b"data")

    def remove() -> None:
        try:
            delete(store, folder, b"data")
        except NotFound:
            return

    for _ in range(15):
        results = run_together(
            lambda: bring(store, folder, b"data"),
            remove,
            lambda: bring(store, folder, b"data"),
            remove,
        )
        assert not [one for one in results if isinstance(one, Exception)]
        assert folder.has(sha256, 4) == bool(list_digests(store))
    remove()
    assert not folder.has(sha256, 4)


def test_expired_uploads_that_a_job_needs_do_not_keep_others(
    store: JobStore, folder: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "BATCH", 2)
    needed = [bring(store, folder, f"{n}".encode(), lifetime_s=n)[0].sha256 for n in range(10, 15)]
    free, _ = bring(store, folder, b"free", lifetime_s=20)
    later, _ = bring(store, folder, b"later", lifetime_s=HOUR_S)
    for n, sha256 in enumerate(needed):
        store.post(make_planned_job(f"{n}", Input("IN", sha256=sha256)))
    with store.db.write() as connection:
        connection.execute(update(artifacts).values(expires_at=artifacts.c.expires_at - 60))
    collector = make_collector(store.db, folder, Retention())
    assert collector.collect() == {"uploads": 1}
    with store.db.read() as connection:
        left = set(connection.execute(select(artifacts.c.sha256)).scalars())
    assert left == {*needed, later.sha256}
    assert not folder.has(free.sha256, 4)
