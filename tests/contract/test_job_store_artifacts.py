"""Bytes that a tenant has, whether a job made them or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from shared.data_files import ABSENT, DataFile, reject_data_files
from shared.errors import InvalidRequest, NotFound
from shared.jobs import completion, queries
from shared.jobs.inheritance import data_behind
from shared.jobs.mapping import to_json
from shared.jobs.records import Artifact, Input
from shared.jobs.tables import UPLOAD_ORIGIN, artifacts, jobs
from tests.support.job_store import (
    ALICE,
    BOB,
    CODE_DIGEST,
    JobStore,
    compute_sha256,
    make_artifact,
    make_planned_job,
    run_together,
)


def rows(store: JobStore) -> dict[tuple[str, str], Any]:
    with store.db.read() as connection:
        return {(r.tenant, r.sha256): r for r in connection.execute(select(artifacts))}


def upload(store: JobStore, tag: str, tenant: str = ALICE, **values: Any) -> Artifact:
    """As an upload will bring it."""
    row = {
        "tenant": tenant,
        "sha256": compute_sha256(tag),
        "size": len(tag),
        "media_type": "text/csv",
        "origin": UPLOAD_ORIGIN,
    }
    with store.db.write() as connection:
        connection.execute(insert(artifacts).values(**row, created_at=store.db.now, **values))
    return Artifact("", compute_sha256(tag), len(tag), "text/csv")


def given(tag: str) -> Input:
    return Input("IN", sha256=compute_sha256(tag))


def test_what_a_job_makes_is_its_tenants(store: JobStore) -> None:
    job = store.run_job("a")
    (row,) = rows(store).values()
    assert (row.tenant, row.sha256, row.size, row.media_type) == (
        ALICE,
        compute_sha256("a"),
        1,
        "text/plain",
    )
    assert (row.origin, row.expires_at) == (job, None)
    assert row.created_at == pytest.approx(store.get_job(job).finished_at, abs=1)
    assert store.get_job(job).artifacts == (make_artifact("a"),)
    assert queries.get_artifact(store.db, ALICE, compute_sha256("a")) == make_artifact("a")
    with pytest.raises(NotFound):
        queries.get_artifact(store.db, BOB, compute_sha256("a"))


def test_the_same_bytes_are_one_artifact_of_whoever_made_them_first(store: JobStore) -> None:
    first = store.run_job("a")
    for tag, reused in (("b", None), ("c", first)):
        store.post(make_planned_job(tag))
        claim = store.claim_one()
        options: dict[str, Any] = {
            "cache_key": compute_sha256(tag),
            "code": CODE_DIGEST,
            "reused_from": reused,
        }
        completion.finish_job(
            store.db,
            claim.job.id,
            claim.fence,
            [make_artifact("a"), make_artifact("a", "TOO"), make_artifact(tag, "OWN")],
            **options,
        )
    assert {sha256: row.origin for (_, sha256), row in rows(store).items()} == {
        compute_sha256("a"): first,
        compute_sha256("b"): store.post(make_planned_job("b")),
        compute_sha256("c"): first,
    }
    assert {
        a.role: a.sha256 for a in store.get_job(store.post(make_planned_job("b"))).artifacts
    } == {
        "OUT": compute_sha256("a"),
        "TOO": compute_sha256("a"),
        "OWN": compute_sha256("b"),
    }


def test_jobs_that_end_at_once_with_the_same_artifacts_in_any_order(store: JobStore) -> None:
    tags = [f"shared {n}" for n in range(20)]
    claims = []
    for n in range(6):
        store.post(make_planned_job(f"job {n}"))
        claims.append(store.claim_one(f"w{n}"))

    def finish(n: int) -> None:
        found = [
            make_artifact(tag, f"R{place}")
            for place, tag in enumerate(tags if n % 2 else reversed(tags))
        ]
        completion.finish_job(
            store.db,
            claims[n].job.id,
            claims[n].fence,
            found,
            cache_key=compute_sha256(f"content {n}"),
            code=CODE_DIGEST,
        )

    assert run_together(*(lambda n=n: finish(n) for n in range(6))) == [None] * 6  # type: ignore[misc]
    assert len(rows(store)) == 20
    assert {len(store.get_job(claim.job.id).artifacts) for claim in claims} == {20}


def test_an_input_may_be_what_the_tenant_has_and_no_other(store: JobStore) -> None:
    store.run_job("made")
    upload(store, "uploaded")
    upload(store, "another's", BOB)
    for tag in ("made", "uploaded"):
        store.post(make_planned_job(f"from {tag}", given(tag)))
        assert store.claim_one().inputs == {"IN": compute_sha256(tag)}
    for tag in ("another's", "nobody's"):
        with pytest.raises(InvalidRequest, match=f"there is no artifact {compute_sha256(tag)}"):
            store.post(make_planned_job("b", given(tag)))


def test_an_upload_is_fetched_like_what_a_job_made(store: JobStore) -> None:
    uploaded = upload(store, "uploaded")
    assert queries.get_artifact(store.db, ALICE, compute_sha256("uploaded")) == uploaded
    with pytest.raises(NotFound):
        queries.get_artifact(store.db, BOB, compute_sha256("uploaded"))


def test_what_has_expired_is_not_there_any_more(store: JobStore) -> None:
    upload(store, "kept", expires_at=store.db.now + 600)
    upload(store, "gone", expires_at=store.db.now - 1)
    store.post(make_planned_job("a", given("kept")))
    assert queries.get_artifact(store.db, ALICE, compute_sha256("kept")).size == 4
    with pytest.raises(InvalidRequest, match="there is no artifact"):
        store.post(make_planned_job("b", given("gone")))
    with pytest.raises(NotFound):
        queries.get_artifact(store.db, ALICE, compute_sha256("gone"))
    claim = store.claim_one()
    completion.finish_job(
        store.db,
        claim.job.id,
        claim.fence,
        [make_artifact("gone")],
        cache_key=compute_sha256("content"),
        code=CODE_DIGEST,
    )
    # a job made the same bytes
    assert queries.get_artifact(store.db, ALICE, compute_sha256("gone")).role == "OUT"


def read_by(store: JobStore, job_id: str, data: Mapping[str, str]) -> None:
    """As if the job had been planned with these data files."""
    with store.db.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(data=to_json(data)))


def behind(store: JobStore, tag: str, **now: str) -> Mapping[str, str]:
    """The data files behind an artifact, where the data root holds these now (an npz each)."""

    def identify(files: Sequence[DataFile]) -> dict[str, str]:
        return {file.path: now.get(file.path.removesuffix(".npz"), ABSENT) for file in files}

    return data_behind(store.db, ALICE, compute_sha256(tag), identify, "inputs.IN")


def test_data_files_behind_an_artifact_are_those_of_its_job(store: JobStore) -> None:
    read_by(store, store.run_job("made"), {"mine.npz": "1"})
    upload(store, "uploaded")
    assert behind(store, "made") == {"mine.npz": "1"}
    assert behind(store, "uploaded") == {}
    assert data_behind(store.db, BOB, compute_sha256("made"), reject_data_files, "inputs.IN") == {}


def test_of_several_makers_the_one_counts_that_read_what_is_there_now(store: JobStore) -> None:
    """Two versions of a file may give the same bytes: which one is right shows in the data root."""
    for n, data in enumerate(
        ({"mine.npz": "1", "other.npz": ABSENT}, {"mine.npz": "2"}, {"mine.npz": "3"})
    ):
        job = store.post(
            replace(
                make_planned_job("made"), request_key=compute_sha256(f"plan {n}"), data_digests=data
            )
        )
        store.finish(store.claim_one(), cache_key=compute_sha256(f"content {n}"))
        assert store.get_job(job).data_digests == data
    assert behind(store, "made", mine="2") == {"mine.npz": "2"}
    assert behind(store, "made", mine="1") == {"mine.npz": "1", "other.npz": ABSENT}
    assert behind(store, "made", mine="4") == {"mine.npz": "3"}  # none of them: the last


def test_a_job_is_stored_with_the_data_files_behind_its_inputs(store: JobStore) -> None:
    job = store.post(replace(make_planned_job("a"), data_digests={"mine.npz": "1"}))
    child = store.post(replace(make_planned_job("c", job), data_digests={"other.npz": "1"}))
    assert store.get_job(child).data_digests == {"mine.npz": "1", "other.npz": "1"}
    assert store.get_job(store.post(make_planned_job("d", child))).data_digests == {
        "mine.npz": "1",
        "other.npz": "1",
    }


@pytest.mark.parametrize(("then", "now"), [("1", "2"), (ABSENT, "1"), ("1", ABSENT)])
def test_a_data_file_is_not_combined_with_another_version_of_it(
    store: JobStore, then: str, now: str
) -> None:
    """That it was not there is a version too: something else was read in its place."""
    job = store.post(replace(make_planned_job("a"), data_digests={"mine.npz": then}))
    with pytest.raises(
        InvalidRequest,
        match=r"'mine\.npz' in the data root has changed since input IN0 was produced",
    ):
        store.post(replace(make_planned_job("b", job), data_digests={"mine.npz": now}))
