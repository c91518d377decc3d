"""Bytes that a tenant has, whether a job made them or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from shared.data_files import ABSENT, DataFile, identify_nothing
from shared.errors import InvalidRequest, NotFound
from shared.jobs import completion, reads
from shared.jobs.inheritance import data_behind
from shared.jobs.records import Artifact, Input
from shared.jobs.rows import to_json
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


def read_by(store: Store, job_id: str, data: Mapping[str, str]) -> None:
    """As if the job had been planned with these data files."""
    with store.db.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(data=to_json(data)))


def behind(store: Store, tag: str, **now: str) -> Mapping[str, str]:
    """The data files behind an artifact, where the data root holds these now (an npz each)."""

    def identify(files: Sequence[DataFile]) -> dict[str, str]:
        return {file.path: now.get(file.path.removesuffix(".npz"), ABSENT) for file in files}

    return data_behind(store.db, ALICE, sha(tag), identify, "inputs.IN")


def test_data_files_behind_an_artifact_are_those_of_its_job(store: Store) -> None:
    read_by(store, store.run("made"), {"mine.npz": "1"})
    upload(store, "uploaded")
    assert behind(store, "made") == {"mine.npz": "1"}
    assert behind(store, "uploaded") == {}
    assert data_behind(store.db, BOB, sha("made"), identify_nothing, "inputs.IN") == {}


def test_of_several_makers_the_one_counts_that_read_what_is_there_now(store: Store) -> None:
    """Two versions of a file may give the same bytes: which one is right shows in the data root."""
    for n, data in enumerate(({"mine.npz": "1", "other.npz": ABSENT}, {"mine.npz": "2"}, {"mine.npz": "3"})):
        job = store.post(replace(planned("made"), plan_key=sha(f"plan {n}"), data=data))
        store.finish(store.take(), content_key=sha(f"content {n}"))
        assert store.job(job).data == data
    assert behind(store, "made", mine="2") == {"mine.npz": "2"}
    assert behind(store, "made", mine="1") == {"mine.npz": "1", "other.npz": ABSENT}
    assert behind(store, "made", mine="4") == {"mine.npz": "3"}  # none of them: the last


def test_a_job_is_stored_with_the_data_files_behind_its_inputs(store: Store) -> None:
    job = store.post(replace(planned("a"), data={"mine.npz": "1"}))
    child = store.post(replace(planned("c", job), data={"other.npz": "1"}))
    assert store.job(child).data == {"mine.npz": "1", "other.npz": "1"}
    assert store.job(store.post(planned("d", child))).data == {"mine.npz": "1", "other.npz": "1"}


@pytest.mark.parametrize(("then", "now"), [("1", "2"), (ABSENT, "1"), ("1", ABSENT)])
def test_a_data_file_is_not_combined_with_another_version_of_it(store: Store, then: str, now: str) -> None:
    """That it was not there is a version too: something else was read in its place."""
    job = store.post(replace(planned("a"), data={"mine.npz": then}))
    with pytest.raises(InvalidRequest, match=r"'mine\.npz' in the data root has changed since input IN0 was made"):
        store.post(replace(planned("b", job), data={"mine.npz": now}))
