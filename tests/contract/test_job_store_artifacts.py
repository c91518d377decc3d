"""Bytes that a tenant has, whether a job made them or not."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import insert, select, update

from shared.errors import InvalidRequest, NotFound
from shared.jobs import completion, reads
from shared.jobs.records import Artifact, Input
from shared.jobs.tables import UPLOAD, artifacts, jobs
from tests.support.jobs import ALICE, BOB, CODE, Store, made, planned, sha, together


def rows(store: Store) -> dict[tuple[str, str], Any]:
    with store.db.read() as connection:
        return {(r.tenant, r.sha256): r for r in connection.execute(select(artifacts))}


def upload(store: Store, tag: str, tenant: str = ALICE, **values: Any) -> Artifact:
    """As an upload will bring it."""
    row = {"tenant": tenant, "sha256": sha(tag), "size": len(tag), "media_type": "text/csv", "origin": UPLOAD}
    with store.db.write() as connection:
        connection.execute(insert(artifacts).values(**row, created_at=store.db.now, **values))
    return Artifact("", sha(tag), len(tag), "text/csv")


def given(tag: str) -> Input:
    return Input("IN", sha256=sha(tag))


def test_what_a_job_makes_is_its_tenants(store: Store) -> None:
    job = store.run("a")
    (row,) = rows(store).values()
    assert (row.tenant, row.sha256, row.size, row.media_type) == (ALICE, sha("a"), 1, "text/plain")
    assert (row.origin, row.expires_at) == (job, None)
    assert row.created_at == pytest.approx(store.job(job).finished_at, abs=1)
    assert store.job(job).artifacts == (made("a"),)
    assert reads.get_artifact(store.db, ALICE, sha("a")) == made("a")
    with pytest.raises(NotFound):
        reads.get_artifact(store.db, BOB, sha("a"))


def test_the_same_bytes_are_one_artifact_of_whoever_made_them_first(store: Store) -> None:
    first = store.run("a")
    for tag, reused in (("b", None), ("c", first)):
        store.post(planned(tag))
        claim = store.take()
        options: dict[str, Any] = {"content_key": sha(tag), "code": CODE, "reused_from": reused}
        completion.finish(
            store.db, claim.job.id, claim.fence, [made("a"), made("a", "TOO"), made(tag, "OWN")], **options
        )
    assert {sha256: row.origin for (_, sha256), row in rows(store).items()} == {
        sha("a"): first,
        sha("b"): store.post(planned("b")),
        sha("c"): first,
    }
    assert {a.role: a.sha256 for a in store.job(store.post(planned("b"))).artifacts} == {
        "OUT": sha("a"),
        "TOO": sha("a"),
        "OWN": sha("b"),
    }


def test_jobs_that_end_at_once_with_the_same_artifacts_in_any_order(store: Store) -> None:
    tags = [f"shared {n}" for n in range(20)]
    claims = []
    for n in range(6):
        store.post(planned(f"job {n}"))
        claims.append(store.take(f"w{n}"))

    def finish(n: int) -> None:
        found = [made(tag, f"R{place}") for place, tag in enumerate(tags if n % 2 else reversed(tags))]
        completion.finish(
            store.db, claims[n].job.id, claims[n].fence, found, content_key=sha(f"content {n}"), code=CODE
        )

    assert together(*(lambda n=n: finish(n) for n in range(6))) == [None] * 6  # type: ignore[misc]
    assert len(rows(store)) == 20
    assert {len(store.job(claim.job.id).artifacts) for claim in claims} == {20}


def test_an_input_may_be_what_the_tenant_has_and_no_other(store: Store) -> None:
    store.run("made")
    upload(store, "uploaded")
    upload(store, "another's", BOB)
    for tag in ("made", "uploaded"):
        store.post(planned(f"from {tag}", given(tag)))
        assert store.take().inputs == {"IN": sha(tag)}
    for tag in ("another's", "nobody's"):
        with pytest.raises(InvalidRequest, match=f"there is no artifact {sha(tag)}"):
            store.post(planned("b", given(tag)))


def test_an_upload_is_fetched_like_what_a_job_made(store: Store) -> None:
    uploaded = upload(store, "uploaded")
    assert reads.get_artifact(store.db, ALICE, sha("uploaded")) == uploaded
    with pytest.raises(NotFound):
        reads.get_artifact(store.db, BOB, sha("uploaded"))


def test_what_has_expired_is_not_there_any_more(store: Store) -> None:
    upload(store, "kept", expires_at=store.db.now + 600)
    upload(store, "gone", expires_at=store.db.now - 1)
    store.post(planned("a", given("kept")))
    assert reads.get_artifact(store.db, ALICE, sha("kept")).size == 4
    with pytest.raises(InvalidRequest, match="there is no artifact"):
        store.post(planned("b", given("gone")))
    with pytest.raises(NotFound):
        reads.get_artifact(store.db, ALICE, sha("gone"))
    claim = store.take()
    completion.finish(store.db, claim.job.id, claim.fence, [made("gone")], content_key=sha("content"), code=CODE)
    assert reads.get_artifact(store.db, ALICE, sha("gone")).role == "OUT"  # a job made the same bytes


def test_data_files_behind_an_artifact_are_those_of_its_job(store: Store) -> None:
    """Bytes that were made from one version of a file are not combined with another."""
    store.run("made")
    with store.db.write() as connection:
        connection.execute(update(jobs).values(data='{"mine.npz":"1"}'))
    upload(store, "uploaded")
    job = store.post(planned("a", given("made")))
    assert store.job(job).data == {"mine.npz": "1"}
    assert store.job(store.post(planned("b", given("uploaded")))).data == {}
    child = store.post(planned("c", job))
    assert store.job(child).data == {"mine.npz": "1"}
