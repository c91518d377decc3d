"""Previews of running jobs: the latest one per job, written under its fence, checked, and gone with
the job."""

from __future__ import annotations

from itertools import pairwise

import pytest

from shared.errors import FencedOut, InvalidRequest, NotFound
from shared.jobs import attempts, previews
from shared.jobs.previews import MAX_BYTES, SIGNATURE
from shared.jobs.progress_curve import list_progress
from shared.jobs.records import Preview
from tests.support.job_store import ALICE, BOB, JobStore, make_planned_job

PICTURE = SIGNATURE + b"what the attacker sees"


def test_the_latest_preview_replaces_the_one_before(store: JobStore) -> None:
    job_id = store.post(make_planned_job("tag"))
    claim = store.claim_one()
    assert store.get_job(job_id).preview is None
    previews.record_preview(store.db, job_id, claim.fence, SIGNATURE + b"early", 1, 10)
    version = store.get_job(job_id).version
    previews.record_preview(store.db, job_id, claim.fence, PICTURE, 5, 10)
    found = previews.get_preview(store.db, ALICE, job_id)
    assert (found.body, found.step, found.total) == (PICTURE, 5, 10)
    job = store.get_job(job_id)
    assert job.preview == Preview(5, 10, found.made_at)  # without the picture
    assert job.version == version + 1
    with pytest.raises(NotFound):
        previews.get_preview(store.db, BOB, job_id)


def test_an_attempt_that_lost_its_lease_writes_none(store: JobStore) -> None:
    job_id = store.post(make_planned_job("tag"))
    lost = store.claim_one()
    store.lose_attempt(lost)
    before = store.dump(without=("outbox",))  # the refusal is counted
    with pytest.raises(FencedOut):
        previews.record_preview(store.db, job_id, lost.fence, PICTURE, 1, 10)
    assert store.dump(without=("outbox",)) == before


@pytest.mark.parametrize(
    ("body", "step"),
    [
        (b"GIF89a", 1),
        (b"", 1),
        (SIGNATURE + b"0" * (MAX_BYTES - len(SIGNATURE) + 1), 1),
        (PICTURE, 11),
        (PICTURE, -1),
    ],
)
def test_what_is_no_small_picture_is_refused(store: JobStore, body: bytes, step: int) -> None:
    job_id = store.post(make_planned_job("tag"))
    claim = store.claim_one()
    with pytest.raises(InvalidRequest):
        previews.record_preview(store.db, job_id, claim.fence, body, step, 10)
    assert store.get_job(job_id).preview is None


def test_the_previews_of_an_audit(store: JobStore) -> None:
    audit, ids = store.submit_audit(*(make_planned_job(tag) for tag in "abc"))
    for step in range(1, 3):
        claim = store.claim_one()
        previews.record_preview(store.db, claim.job.id, claim.fence, PICTURE, step, 10)
        attempts.renew_lease(store.db, claim.job.id, claim.fence, 60, {"matching_loss": 0.5})
    found = previews.list_previews(store.db, ALICE, audit, 10)
    assert {one.job for one in found} < set(ids)
    assert sorted(one.preview.step for one in found) == [1, 2]
    assert all(one.preview.body == b"" for one in found)
    assert found[0].progress == {"matching_loss": 0.5}
    assert [one.preview.step for one in previews.list_previews(store.db, ALICE, audit, 1)] == [2]
    assert previews.list_previews(store.db, BOB, audit, 10) == []


def test_the_curve_of_a_number_is_thinned_evenly(store: JobStore) -> None:
    job_id = store.post(make_planned_job("tag"))
    claim = store.claim_one()

    def report(fence: int, done: int) -> None:
        progress = {"done": done, "total": 100, "matching_loss": 1 / (done + 1)}
        attempts.renew_lease(store.db, job_id, fence, 60, progress)

    attempts.renew_lease(store.db, job_id, claim.fence, 60, {"done": 0})  # not measured yet
    for done in range(1, 41):
        report(claim.fence, done)
    curve = list_progress(store.db, ALICE, job_id)
    assert curve == [(done, 1 / (done + 1)) for done in range(1, 41)]
    thinned = list_progress(store.db, ALICE, job_id, points=10)
    assert len(thinned) == 10
    assert thinned[-1] == curve[-1]
    steps = [point.step for point in thinned]
    assert {b - a for a, b in pairwise(steps)} <= {4, 5}
    assert list_progress(store.db, BOB, job_id) == []
    # the next attempt goes on from step 20
    store.lose_attempt(claim)
    store.expire_pause(job_id)
    fence = store.claim_one().fence
    for done in (21, 22):
        report(fence, done)
    assert [point.step for point in list_progress(store.db, ALICE, job_id)] == [*range(1, 23)]
