"""What an attempt is promised: a job is handed out once, and only the holder of its fence writes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import pytest

from shared.errors import FencedOut
from shared.jobs import claims, completion, control, fleet
from shared.jobs.moves import lock
from shared.jobs.records import Claim, Orders
from shared.jobs.states import Failure
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
    "finish": lambda s, j, f: completion.finish(s.db, j, f, [made("late")], content_key=sha("key"), code="late"),
    "fail": lambda s, j, f: claims.fail(s.db, j, f, Failure.ERROR, "late"),
    "cancelled": lambda s, j, f: claims.cancelled(s.db, j, f),
    "drained": lambda s, j, f: claims.drained(s.db, j, f),
    "lose": lambda s, j, f: claims.lose(s.db, j, f, "late", 3),
}


OVER: dict[str, Callable[[Store, Claim], Any]] = {
    "queued again": Store.lose,
    "with another": lambda store, claim: (store.lose(claim), store.take("w2")),
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
