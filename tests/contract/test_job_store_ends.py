"""How attempts end: finished, failed, lost or given up, and what follows for the jobs that wait."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from shared.jobs import attempts, completion, control
from shared.jobs.states import Failure, State
from shared.jobs.transitions import lock_job, transition
from tests.support.job_store import (
    ALICE,
    BOB,
    STAGE,
    JobStore,
    compute_sha256,
    make_artifact,
    make_planned_job,
    run_overlapping,
    run_together,
)


def test_finish_stores_what_was_made_and_releases_what_waited(store: JobStore) -> None:
    root = make_planned_job("root")
    a, b = (
        store.submit(root, make_planned_job(x, root, stage=f"stage {x}")).jobs[compute_sha256(x)]
        for x in "ab"
    )
    claim = store.claim_one()
    attempts.save_checkpoint(
        store.db, claim.job.id, claim.fence, compute_sha256("half"), compute_sha256("key")
    )
    assert store.finish(claim) == {"stage a", "stage b"}
    job = store.get_job(claim.job.id)
    assert (job.state, job.artifacts, job.lease_until) == (
        "succeeded",
        (make_artifact("root"),),
        None,
    )
    assert (job.cache_key, job.checkpoint) == (compute_sha256("content root"), None)
    assert job.finished_at is not None
    assert store.list_states(a, b) == ["queued", "queued"]


def test_a_job_with_two_inputs_waits_for_both(store: JobStore) -> None:
    left, right = make_planned_job("left"), make_planned_job("right")
    child = store.post(left, right, make_planned_job("child", left, right))
    assert store.finish(store.claim_one()) == set()
    assert store.list_states(child) == ["waiting"]
    assert store.finish(store.claim_one()) == {STAGE}
    assert store.list_states(child) == ["queued"]


def test_two_inputs_that_finish_at_the_same_moment_release_the_job_once(store: JobStore) -> None:
    for n in range(8):
        left, right = make_planned_job(f"left{n}"), make_planned_job(f"right{n}")
        child = store.post(left, right, make_planned_job(f"child{n}", left, right))
        first, second = store.claim_one(), store.claim_one()
        stages = run_together(lambda c=first: store.finish(c), lambda c=second: store.finish(c))
        assert sorted(stages, key=len) == [set(), {STAGE}]
        assert store.list_transitions(child) == ["waiting", "queued"]
        store.finish(store.claim_one())


def test_an_input_that_finishes_inside_the_others_transaction_releases_the_job(
    store: JobStore,
) -> None:
    """The same race, made to happen: one input's transaction is open until the other waits for its
    lock."""
    left, right = make_planned_job("left"), make_planned_job("right")
    child = store.post(left, right, make_planned_job("child", left, right))
    first, second = store.claim_one(), store.claim_one()

    def finish_first(connection: Any) -> None:
        assert (
            transition(
                store.db, connection, lock_job(connection, first.job.id), State.SUCCEEDED, "done"
            )
            == set()
        )

    assert run_overlapping(store.db, finish_first, lambda: store.finish(second)) == {STAGE}
    assert store.list_transitions(child) == ["waiting", "queued"]


@pytest.mark.parametrize("end", ["failed", "cancelled", "lost"])
def test_what_waits_for_a_job_that_ends_badly_fails_down_to_the_last(
    store: JobStore, end: str
) -> None:
    a = make_planned_job("a")
    b = make_planned_job("b", a)
    c, side = make_planned_job("c", b), make_planned_job("side")
    ids = list(store.submit(a, b, c, side).jobs.values())
    claim = next(x for x in (store.claim_one(), store.claim_one()) if x.job.id == ids[0])
    if end == "failed":
        store.fail(claim, Failure.OUT_OF_MEMORY)
    elif end == "cancelled":
        control.cancel_job(store.db, ALICE, ids[0])
        attempts.cancel_attempt(store.db, ids[0], claim.fence)
    else:
        attempts.lose_attempt(store.db, ids[0], claim.fence, "its worker process died", 1)
    state = "cancelled" if end == "cancelled" else "failed"
    assert store.list_states(*ids) == [state, "failed", "failed", "running"]
    failure = {"failed": "out_of_memory", "cancelled": None, "lost": "lost_worker"}[end]
    assert [store.get_job(i).failure for i in ids[:3]] == [failure, "input_failed", "input_failed"]
    assert (
        store.get_job(ids[2]).message
        == f"its input, job {ids[1]} ({STAGE}), failed: retry that one first"
    )


def test_two_inputs_that_fail_at_the_same_moment_fail_the_job_once(store: JobStore) -> None:
    for n in range(5):
        left, right = make_planned_job(f"left{n}"), make_planned_job(f"right{n}")
        child = store.post(left, right, make_planned_job(f"child{n}", left, right))
        first, second = store.claim_one(), store.claim_one()
        assert run_together(lambda c=first: store.fail(c), lambda c=second: store.fail(c)) == [
            None,
            None,
        ]
        assert store.list_transitions(child) == ["waiting", "failed"]


def test_lost_attempts_are_charged_and_the_third_is_the_last(store: JobStore) -> None:
    job_id = store.post(make_planned_job("a"))
    for lost in (1, 2):
        store.claim_one(lease_s=-1)
        assert store.expire_leases() == [job_id]
        assert (store.get_job(job_id).state, store.get_job(job_id).lost_count) == ("queued", lost)
    store.claim_one("w9", lease_s=-1)
    assert store.expire_leases() == [job_id]
    job = store.get_job(job_id)
    assert (job.state, job.failure, job.lost_count, job.attempt) == ("failed", "lost_worker", 3, 3)
    assert "3 attempts were lost, the last because worker w9 stopped renewing its lease" in str(
        job.message
    )
    assert store.expire_leases() == []


def test_a_lease_that_has_not_run_out_is_left_alone(store: JobStore) -> None:
    store.post(make_planned_job("a"))
    claim = store.claim_one(lease_s=60)
    assert store.expire_leases() == []
    store.end_lease(claim.job.id)
    assert store.expire_leases() == [claim.job.id]


def test_many_reconcilers_charge_a_lost_attempt_once(store: JobStore) -> None:
    ids = {store.post(make_planned_job(f"{n}")) for n in range(6)}
    for _ in ids:
        store.claim_one(lease_s=-1)
    lots = run_together(*[store.expire_leases] * 4)
    assert sorted(itertools.chain(*lots)) == sorted(ids)
    assert {store.get_job(i).lost_count for i in ids} == {1}


@pytest.mark.parametrize("lost_before", [0, 2])
def test_a_cancelled_job_whose_lease_is_lost_is_cancelled(
    store: JobStore, lost_before: int
) -> None:
    job_id = store.post(make_planned_job("a"))
    for _ in range(lost_before):
        store.claim_one(lease_s=-1)
        store.expire_leases()
    store.claim_one(lease_s=-1)
    control.cancel_job(store.db, ALICE, job_id)
    assert store.expire_leases() == [job_id]
    job = store.get_job(job_id)
    assert (job.state, job.failure, job.lost_count) == ("cancelled", None, lost_before + 1)


def test_an_attempt_given_up_is_charged_with_its_reason(store: JobStore) -> None:
    job_id = store.post(make_planned_job("a"))
    claim = store.claim_one()
    assert attempts.lose_attempt(store.db, job_id, claim.fence, "it stood still", 3) == {STAGE}
    assert (store.get_job(job_id).state, store.get_job(job_id).lost_count) == ("queued", 1)
    assert store.list_events(job_id)[-1].data["because"] == "it stood still"


def test_a_checkpoint_is_only_for_the_same_code_and_inputs(store: JobStore) -> None:
    job_id = store.post(make_planned_job("a"))
    claim = store.claim_one()
    assert attempts.find_checkpoint(store.db, job_id, compute_sha256("key")) is None
    for step in ("one", "two"):
        attempts.save_checkpoint(
            store.db, job_id, claim.fence, compute_sha256(step), compute_sha256("key")
        )
    assert attempts.find_checkpoint(store.db, job_id, compute_sha256("key")) == compute_sha256(
        "two"
    )
    assert attempts.find_checkpoint(store.db, job_id, compute_sha256("other key")) is None
    store.lose_attempt(claim)
    assert attempts.find_checkpoint(store.db, job_id, compute_sha256("key")) == compute_sha256(
        "two"
    )


def test_equal_work_is_found_by_content_and_only_where_it_succeeded(store: JobStore) -> None:
    key = compute_sha256("content a")
    a = store.post(make_planned_job("a"))
    claim = store.claim_one()
    assert completion.find_cached_artifacts(store.db, ALICE, key) is None
    store.finish(claim)
    assert completion.find_cached_artifacts(store.db, ALICE, key) == (a, (make_artifact("a"),))
    assert completion.find_cached_artifacts(store.db, BOB, key) is None
    assert completion.find_cached_artifacts(store.db, ALICE, compute_sha256("other")) is None


def test_a_job_that_took_old_artifacts_says_whose(store: JobStore) -> None:
    a = store.run_job("a")
    b = store.post(make_planned_job("b"))
    store.finish(store.claim_one(), cache_key=compute_sha256("content a"), reused_from=a)
    assert store.get_job(b).reused_from == a
    assert store.list_events(b)[-1].data["because"] == "reused an earlier result"
    # the first that did it
    assert completion.find_cached_artifacts(store.db, ALICE, compute_sha256("content a"))[0] == a


def test_a_failure_is_kept_in_words(store: JobStore) -> None:
    job_id = store.post(make_planned_job("a"))
    store.fail(store.claim_one(), Failure.INVALID)
    job = store.get_job(job_id)
    assert (job.failure, job.message, job.lease_until) == ("invalid", "it broke", None)
    assert store.list_events(job_id)[-1].data == {
        "from": "running", "to": "failed", "because": "invalid", "failure": "invalid", "message": "it broke"
    }  # fmt: skip
