"""How attempts end: finished, failed, lost or given up, and what follows for the jobs that wait."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from shared.jobs import claims, completion, control
from shared.jobs.moves import lock, move
from shared.jobs.states import Failure, State
from tests.support.jobs import ALICE, BOB, STAGE, Store, made, overlapping, planned, sha, together


def test_finish_stores_what_was_made_and_releases_what_waited(store: Store) -> None:
    root = planned("root")
    a, b = (store.submit(root, planned(x, root, stage=f"stage {x}")).jobs[sha(x)] for x in "ab")
    claim = store.take()
    claims.save_checkpoint(store.db, claim.job.id, claim.fence, sha("half"), sha("key"))
    assert store.finish(claim) == {"stage a", "stage b"}
    job = store.job(claim.job.id)
    assert (job.state, job.artifacts, job.lease_until) == ("succeeded", (made("root"),), None)
    assert (job.content_key, job.checkpoint) == (sha("content root"), None)
    assert job.finished_at is not None
    assert store.states(a, b) == ["queued", "queued"]


def test_a_job_with_two_inputs_waits_for_both(store: Store) -> None:
    left, right = planned("left"), planned("right")
    child = store.post(left, right, planned("child", left, right))
    assert store.finish(store.take()) == set()
    assert store.states(child) == ["waiting"]
    assert store.finish(store.take()) == {STAGE}
    assert store.states(child) == ["queued"]


def test_two_inputs_that_finish_at_the_same_moment_release_the_job_once(store: Store) -> None:
    for n in range(8):
        left, right = planned(f"left{n}"), planned(f"right{n}")
        child = store.post(left, right, planned(f"child{n}", left, right))
        first, second = store.take(), store.take()
        stages = together(lambda c=first: store.finish(c), lambda c=second: store.finish(c))
        assert sorted(stages, key=len) == [set(), {STAGE}]
        assert store.path(child) == ["waiting", "queued"]
        store.finish(store.take())


def test_an_input_that_finishes_inside_the_others_transaction_releases_the_job(store: Store) -> None:
    """The same race, made to happen: one input's transaction is open until the other waits for its lock."""
    left, right = planned("left"), planned("right")
    child = store.post(left, right, planned("child", left, right))
    first, second = store.take(), store.take()

    def finish_first(connection: Any) -> None:
        assert move(store.db, connection, lock(connection, first.job.id), State.SUCCEEDED, "done") == set()

    assert overlapping(store.db, finish_first, lambda: store.finish(second)) == {STAGE}
    assert store.path(child) == ["waiting", "queued"]


@pytest.mark.parametrize("end", ["failed", "cancelled", "lost"])
def test_what_waits_for_a_job_that_ends_badly_fails_down_to_the_last(store: Store, end: str) -> None:
    a = planned("a")
    b = planned("b", a)
    c, side = planned("c", b), planned("side")
    ids = list(store.submit(a, b, c, side).jobs.values())
    claim = next(x for x in (store.take(), store.take()) if x.job.id == ids[0])
    if end == "failed":
        store.fail(claim, Failure.OUT_OF_MEMORY)
    elif end == "cancelled":
        control.cancel_job(store.db, ALICE, ids[0])
        claims.cancelled(store.db, ids[0], claim.fence)
    else:
        claims.lose(store.db, ids[0], claim.fence, "its worker process died", 1)
    state = "cancelled" if end == "cancelled" else "failed"
    assert store.states(*ids) == [state, "failed", "failed", "running"]
    failure = {"failed": "out_of_memory", "cancelled": None, "lost": "lost_worker"}[end]
    assert [store.job(i).failure for i in ids[:3]] == [failure, "input_failed", "input_failed"]
    assert store.job(ids[2]).message == f"its input, job {ids[1]} ({STAGE}), failed: retry that one first"


def test_two_inputs_that_fail_at_the_same_moment_fail_the_job_once(store: Store) -> None:
    for n in range(5):
        left, right = planned(f"left{n}"), planned(f"right{n}")
        child = store.post(left, right, planned(f"child{n}", left, right))
        first, second = store.take(), store.take()
        assert together(lambda c=first: store.fail(c), lambda c=second: store.fail(c)) == [None, None]
        assert store.path(child) == ["waiting", "failed"]


def test_lost_attempts_are_charged_and_the_third_is_the_last(store: Store) -> None:
    job_id = store.post(planned("a"))
    for lost in (1, 2):
        store.take(lease=-1)
        assert store.expire() == [job_id]
        assert (store.job(job_id).state, store.job(job_id).lost_count) == ("queued", lost)
    store.take("w9", lease=-1)
    assert store.expire() == [job_id]
    job = store.job(job_id)
    assert (job.state, job.failure, job.lost_count, job.attempt) == ("failed", "lost_worker", 3, 3)
    assert "3 attempts were lost, the last because worker w9 stopped renewing its lease" in str(job.message)
    assert store.expire() == []


def test_a_lease_that_has_not_run_out_is_left_alone(store: Store) -> None:
    store.post(planned("a"))
    claim = store.take(lease=60)
    assert store.expire() == []
    store.lapse(claim.job.id)
    assert store.expire() == [claim.job.id]


def test_many_reconcilers_charge_a_lost_attempt_once(store: Store) -> None:
    ids = {store.post(planned(f"{n}")) for n in range(6)}
    for _ in ids:
        store.take(lease=-1)
    lots = together(*[store.expire] * 4)
    assert sorted(itertools.chain(*lots)) == sorted(ids)
    assert {store.job(i).lost_count for i in ids} == {1}


@pytest.mark.parametrize("lost_before", [0, 2])
def test_a_cancelled_job_whose_lease_is_lost_is_cancelled(store: Store, lost_before: int) -> None:
    job_id = store.post(planned("a"))
    for _ in range(lost_before):
        store.take(lease=-1)
        store.expire()
    store.take(lease=-1)
    control.cancel_job(store.db, ALICE, job_id)
    assert store.expire() == [job_id]
    job = store.job(job_id)
    assert (job.state, job.failure, job.lost_count) == ("cancelled", None, lost_before + 1)


def test_an_attempt_given_up_is_charged_with_its_reason(store: Store) -> None:
    job_id = store.post(planned("a"))
    claim = store.take()
    assert claims.lose(store.db, job_id, claim.fence, "it stood still", 3) == {STAGE}
    assert (store.job(job_id).state, store.job(job_id).lost_count) == ("queued", 1)
    assert store.events(job_id)[-1].data["because"] == "it stood still"


def test_a_checkpoint_is_only_for_the_same_code_and_inputs(store: Store) -> None:
    job_id = store.post(planned("a"))
    claim = store.take()
    assert claims.checkpoint_for(store.db, job_id, sha("key")) is None
    for step in ("one", "two"):
        claims.save_checkpoint(store.db, job_id, claim.fence, sha(step), sha("key"))
    assert claims.checkpoint_for(store.db, job_id, sha("key")) == sha("two")
    assert claims.checkpoint_for(store.db, job_id, sha("other key")) is None
    store.lose(claim)
    assert claims.checkpoint_for(store.db, job_id, sha("key")) == sha("two")


def test_equal_work_is_found_by_content_and_only_where_it_succeeded(store: Store) -> None:
    key = sha("content a")
    a = store.post(planned("a"))
    claim = store.take()
    assert completion.equal_work(store.db, ALICE, key) is None
    store.finish(claim)
    assert completion.equal_work(store.db, ALICE, key) == (a, (made("a"),))
    assert completion.equal_work(store.db, BOB, key) is None
    assert completion.equal_work(store.db, ALICE, sha("other")) is None


def test_a_job_that_took_old_artifacts_says_whose(store: Store) -> None:
    a = store.run("a")
    b = store.post(planned("b"))
    store.finish(store.take(), content_key=sha("content a"), reused_from=a)
    assert store.job(b).reused_from == a
    assert store.events(b)[-1].data["because"] == "the same work was done before"
    assert completion.equal_work(store.db, ALICE, sha("content a"))[0] == a  # the first that did it


def test_a_failure_is_kept_in_words(store: Store) -> None:
    job_id = store.post(planned("a"))
    store.fail(store.take(), Failure.INVALID)
    job = store.job(job_id)
    assert (job.failure, job.message, job.lease_until) == ("invalid", "it broke", None)
    assert store.events(job_id)[-1].data == {
        "from": "running", "to": "failed", "because": "invalid", "failure": "invalid", "message": "it broke"
    }  # fmt: skip
