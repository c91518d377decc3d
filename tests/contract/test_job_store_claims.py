"""What an attempt is promised: a job is handed out once, and only the holder of its fence writes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import pytest

from shared.errors import FencedOut
from shared.jobs import claims, control, fleet
from shared.jobs.moves import lock, move
from shared.jobs.records import Claim, Orders
from shared.jobs.states import Failure, State
from tests.support.jobs import ALICE, BOB, PLUGIN, STAGE, Store, made, overlapping, planned, sha, together


def test_a_claim_says_all_that_an_attempt_needs(store: Store) -> None:
    store.run("a")
    b = store.post(planned("a"), planned("b", planned("a")))
    before = time.time()
    claim = store.take("w7", lease=60)
    assert (claim.job.id, claim.fence, claim.inputs) == (b, 1, {"IN0": sha("a")})
    assert (claim.job.state, claim.job.attempt, claim.job.worker) == ("running", 1, "w7")
    assert claim.job.lease_until == pytest.approx(before + 60, abs=30)
    assert claim.job.started_at == pytest.approx(before, abs=30)


def test_nothing_queued_nothing_claimed(store: Store) -> None:
    assert store.claim() is None
    root = planned("root")
    store.submit(root, planned("leaf", root))
    store.take()
    assert store.claim() is None  # the leaf waits


def test_each_job_is_handed_out_once_to_many_at_once(store: Store) -> None:
    ids = {store.post(planned(f"{n}")) for n in range(24)}

    def all_i_can_get(worker: str) -> list[str]:
        had = []
        while (claim := store.claim(worker)) is not None:
            assert claim.fence == 1
            had.append(claim.job.id)
        return had

    lots = together(*[lambda w=f"w{n}": all_i_can_get(w) for n in range(6)])
    assert all(isinstance(lot, list) for lot in lots), lots
    assert sorted(itertools.chain(*lots)) == sorted(ids)


def test_a_claim_does_not_wait_for_a_job_that_somebody_has_locked(store: Store) -> None:
    """PostgreSQL passes it over; SQLite, with its one writer, comes after whoever locked it."""
    best = store.post(planned("best"), priority=1)
    store.post(planned("second"))
    claim = overlapping(store.db, lambda c: lock(c, best), store.take)
    assert claim.job.params["tag"] == ("second" if store.db.dialect == "postgresql" else "best")


def test_priority_goes_first_then_age(store: Store) -> None:
    tags = [("old", 0), ("young", 0), ("urgent", 5), ("unloved", -5)]
    for tag, priority in tags:
        store.post(planned(tag), priority=priority)
        time.sleep(0.003)  # SQLite's clock counts milliseconds
    assert [store.take().job.params["tag"] for _ in tags] == ["urgent", "old", "young", "unloved"]


def test_a_job_that_was_put_back_keeps_its_place(store: Store) -> None:
    first = store.post(planned("first"))
    time.sleep(0.003)
    store.post(planned("second"))
    claim = store.take()
    claims.drained(store.db, first, claim.fence)
    assert store.take().job.id == first


def test_the_tenant_with_fewer_running_jobs_goes_first(store: Store) -> None:
    for n in range(3):
        store.post(planned(f"{n}"))
        time.sleep(0.003)
    store.post(planned("theirs"), tenant=BOB)
    assert [store.take().job.tenant for _ in range(4)] == [ALICE, BOB, ALICE, ALICE]


def test_a_worker_gets_only_what_its_stages_and_plugins_can_do(store: Store) -> None:
    store.post(planned("a", plugins=(PLUGIN, "dataset:digits")))
    assert store.claim(plugins=(PLUGIN, "dataset:other")) is None
    assert store.claim(plugins=()) is None
    assert store.claim(stages=("attack",)) is None
    assert store.claim(stages=()) is None
    assert store.claim(stages=("attack", STAGE), plugins=(PLUGIN, "dataset:digits", "model:mlp")) is not None


def test_a_job_that_a_worker_cannot_do_does_not_stand_in_the_way(store: Store) -> None:
    store.post(planned("new", plugins=(PLUGIN, "model:new")), priority=9)
    store.post(planned("known"))
    assert store.take().job.params["tag"] == "known"


def test_a_draining_worker_gets_nothing(store: Store) -> None:
    store.post(planned("a"))
    _register(store, "w1")
    fleet.drain(store.db, "w1")
    assert store.claim("w1") is None
    assert store.claim("w2") is not None


def _register(store: Store, worker: str, host: str = "here") -> None:
    fleet.register(
        store.db, worker, host=host, pid=1, stages=(STAGE,), device="cpu", threads=1, versions={}, catalog=sha("c")
    )


WRITES: dict[str, Callable[[Store, str, int], Any]] = {
    "save_checkpoint": lambda s, j, f: claims.save_checkpoint(s.db, j, f, sha("late"), sha("key")),
    "finish": lambda s, j, f: claims.finish(s.db, j, f, [made("late")], content_key=sha("key"), code="late"),
    "fail": lambda s, j, f: claims.fail(s.db, j, f, Failure.ERROR, "late"),
    "cancelled": lambda s, j, f: claims.cancelled(s.db, j, f),
    "drained": lambda s, j, f: claims.drained(s.db, j, f),
    "lose": lambda s, j, f: claims.lose(s.db, j, f, "late", 3),
}


def _lost(store: Store, claim: Claim) -> None:
    store.lapse(claim.job.id)
    assert store.expire() == [claim.job.id]


OVER: dict[str, Callable[[Store, Claim], Any]] = {
    "queued again": _lost,
    "with another": lambda store, claim: (_lost(store, claim), store.take("w2")),
    "succeeded": lambda store, claim: store.finish(claim),
    "failed": lambda store, claim: store.fail(claim),
}


@pytest.mark.parametrize("over", OVER)
def test_whoever_comes_with_an_old_fence_writes_nothing(store: Store, over: str) -> None:
    root = planned("a")
    store.submit(root, planned("child", root))
    claim = store.take()
    OVER[over](store, claim)
    before = store.dump()
    for name, write in WRITES.items():
        with pytest.raises(FencedOut):
            write(store, claim.job.id, claim.fence)
        assert store.dump() == before, name
    assert claims.renew(store.db, claim.job.id, claim.fence, 60, {"done": 1}) is None
    assert store.dump() == before


@pytest.mark.parametrize("fence", [-1, 0, 2])
def test_a_fence_that_was_never_given_out_is_refused(store: Store, fence: int) -> None:
    claim = store.take() if store.post(planned("a")) else None
    assert claim is not None
    before = store.dump()
    for write in WRITES.values():
        with pytest.raises(FencedOut):
            write(store, claim.job.id, fence)
    assert store.dump() == before


def test_an_attempt_that_lost_its_lease_but_not_its_job_may_go_on(store: Store) -> None:
    """Only a reconciler takes a job away: until it has looked, the holder can still renew."""
    store.post(planned("a"))
    claim = store.take(lease=-1)
    assert claims.renew(store.db, claim.job.id, claim.fence, 60) == Orders(None, False)
    assert store.expire() == []


def test_a_finish_and_an_expiry_at_the_same_moment_are_one_of_the_two(store: Store) -> None:
    for n in range(6):
        job_id = store.post(planned(f"{n}"))
        claim = store.take(lease=-1)
        finished, expired = together(lambda c=claim: store.finish(c), store.expire)
        state = store.job(job_id).state
        assert not isinstance(expired, Exception)
        if isinstance(finished, FencedOut):
            assert (state, expired) == ("queued", [job_id])
            store.finish(store.take())
        else:
            assert (state, expired) == ("succeeded", [])


def test_renew_extends_the_lease_and_carries_progress_out(store: Store) -> None:
    job_id = store.post(planned("a"))
    claim = store.take(lease=1)
    assert claims.renew(store.db, job_id, claim.fence, 300, {"done": 3, "total": 9, "loss": 0.5}) == Orders(None, False)
    job = store.job(job_id)
    assert job.progress == {"done": 3, "total": 9, "loss": 0.5}
    assert job.lease_until is not None
    assert job.lease_until > time.time() + 200
    assert store.events(job_id)[-1].data == {"done": 3, "total": 9, "loss": 0.5}


def test_the_same_progress_is_no_news(store: Store) -> None:
    job_id = store.post(planned("a"))
    claim = store.take()
    for _ in range(3):
        claims.renew(store.db, job_id, claim.fence, 60, {"done": 1})
    claims.renew(store.db, job_id, claim.fence, 60)
    assert [e.kind for e in store.events(job_id)] == ["state", "state", "progress"]


def test_renew_carries_cancel_in(store: Store) -> None:
    job_id = store.post(planned("a"))
    claim = store.take()
    control.cancel_job(store.db, ALICE, job_id)
    assert claims.renew(store.db, job_id, claim.fence, 60) == Orders("cancel", False)
    claims.cancelled(store.db, job_id, claim.fence)
    assert store.states(job_id) == ["cancelled"]


def test_renew_carries_the_time_limit_in(store: Store) -> None:
    job_id = store.post(planned("a"), time_limit=0.01)
    claim = store.take()
    time.sleep(0.02)
    assert claims.renew(store.db, job_id, claim.fence, 60) == Orders("timeout", False)
    store.fail(claim, Failure.TIMEOUT)
    assert store.job(job_id).failure == "timeout"


def test_a_time_limit_counts_from_the_start_of_the_attempt(store: Store) -> None:
    job_id = store.post(planned("a"), time_limit=30)
    time.sleep(0.01)
    claim = store.take()
    assert claims.renew(store.db, job_id, claim.fence, 60) == Orders(None, False)


def test_renew_carries_drain_in(store: Store) -> None:
    _register(store, "w1")
    job_id = store.post(planned("a"))
    claim = store.take("w1")
    fleet.drain(store.db, "w1")
    assert claims.renew(store.db, job_id, claim.fence, 60) == Orders(None, True)


def test_a_drained_job_is_queued_again_free_of_charge(store: Store) -> None:
    job_id = store.post(planned("a"))
    claim = store.take()
    claims.save_checkpoint(store.db, job_id, claim.fence, sha("half"), sha("key"))
    assert claims.drained(store.db, job_id, claim.fence) == {STAGE}
    job = store.job(job_id)
    assert (job.state, job.lost_count, job.attempt, job.lease_until) == ("queued", 0, 1, None)
    again = store.take("w2")
    assert (again.job.attempt, again.fence, again.job.checkpoint) == (2, 2, sha("half"))


def test_a_cancel_that_comes_in_while_a_worker_leaves_is_obeyed(store: Store) -> None:
    job_id = store.post(planned("a"))
    claim = store.take()
    control.cancel_job(store.db, ALICE, job_id)
    assert claims.drained(store.db, job_id, claim.fence) == set()
    assert store.states(job_id) == ["cancelled"]


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
    _lost(store, claim)
    assert claims.checkpoint_for(store.db, job_id, sha("key")) == sha("two")


def test_equal_work_is_found_by_content_and_only_where_it_succeeded(store: Store) -> None:
    key = sha("content a")
    a = store.post(planned("a"))
    claim = store.take()
    assert claims.equal_work(store.db, ALICE, key) is None
    store.finish(claim)
    assert claims.equal_work(store.db, ALICE, key) == (a, (made("a"),))
    assert claims.equal_work(store.db, BOB, key) is None
    assert claims.equal_work(store.db, ALICE, sha("other")) is None


def test_a_job_that_took_old_artifacts_says_whose(store: Store) -> None:
    a = store.run("a")
    b = store.post(planned("b"))
    store.finish(store.take(), content_key=sha("content a"), reused_from=a)
    assert store.job(b).reused_from == a
    assert store.events(b)[-1].data["because"] == "the same work was done before"
    assert claims.equal_work(store.db, ALICE, sha("content a"))[0] == a  # the first that did it


def test_a_failure_is_kept_in_words(store: Store) -> None:
    job_id = store.post(planned("a"))
    store.fail(store.take(), Failure.INVALID)
    job = store.job(job_id)
    assert (job.failure, job.message, job.lease_until) == ("invalid", "it broke", None)
    assert store.events(job_id)[-1].data == {
        "from": "running", "to": "failed", "because": "invalid", "failure": "invalid", "message": "it broke"
    }  # fmt: skip
