"""What an attempt is promised: a job is handed out once, and only the holder of its fence
writes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select, update

from shared.errors import FencedOut
from shared.jobs import attempts, completion, control, worker_registry
from shared.jobs.dispatch import CANDIDATE_JOBS
from shared.jobs.records import Claim, ControlFlags, WorkerMemory
from shared.jobs.states import Failure
from shared.jobs.tables import jobs, workers
from shared.jobs.transitions import lock_job
from tests.support.job_store import (
    ALICE,
    BOB,
    PLUGIN,
    STAGE,
    JobStore,
    compute_sha256,
    make_artifact,
    make_planned_job,
    run_overlapping,
    run_together,
)


def test_a_claim_says_all_that_an_attempt_needs(store: JobStore) -> None:
    store.run_job("a")
    b = store.post(make_planned_job("a"), make_planned_job("b", make_planned_job("a")))
    before = time.time()
    claim = store.claim_one("w7", lease_s=60)
    assert (claim.job.id, claim.fence, claim.inputs) == (b, 1, {"IN0": compute_sha256("a")})
    assert (claim.job.state, claim.job.attempt, claim.job.worker) == ("running", 1, "w7")
    assert claim.job.lease_until == pytest.approx(before + 60, abs=30)
    assert claim.job.started_at == pytest.approx(before, abs=30)


def test_nothing_queued_nothing_claimed(store: JobStore) -> None:
    assert store.claim() is None
    root = make_planned_job("root")
    store.submit(root, make_planned_job("leaf", root))
    store.claim_one()
    assert store.claim() is None  # the leaf waits


def test_each_job_is_handed_out_once_to_many_at_once(store: JobStore) -> None:
    ids = {store.post(make_planned_job(f"{n}")) for n in range(24)}

    def all_i_can_get(worker: str) -> list[str]:
        had = []
        while (claim := store.claim(worker)) is not None:
            assert claim.fence == 1
            had.append(claim.job.id)
        return had

    lots = run_together(*[lambda w=f"w{n}": all_i_can_get(w) for n in range(6)])
    assert all(isinstance(lot, list) for lot in lots), lots
    assert sorted(itertools.chain(*lots)) == sorted(ids)


def test_a_claim_does_not_wait_for_a_job_that_somebody_has_locked(store: JobStore) -> None:
    """PostgreSQL passes it over; SQLite, with its one writer, comes after whoever locked it."""
    best = store.post(make_planned_job("best"), priority=1)
    store.post(make_planned_job("second"))
    claim = run_overlapping(store.db, lambda c: lock_job(c, best), store.claim_one)
    assert claim.job.params["tag"] == ("second" if store.db.dialect == "postgresql" else "best")


def test_priority_goes_first_then_age(store: JobStore) -> None:
    tags = [("old", 0), ("young", 0), ("urgent", 5), ("unloved", -5)]
    for tag, priority in tags:
        store.post(make_planned_job(tag), priority=priority)
        time.sleep(0.003)  # SQLite's clock counts milliseconds
    assert [store.claim_one().job.params["tag"] for _ in tags] == [
        "urgent",
        "old",
        "young",
        "unloved",
    ]


def test_a_job_that_was_put_back_keeps_its_place(store: JobStore) -> None:
    first = store.post(make_planned_job("first"))
    time.sleep(0.003)
    store.post(make_planned_job("second"))
    claim = store.claim_one()
    attempts.drain_attempt(store.db, first, claim.fence)
    assert store.claim_one().job.id == first


def test_the_tenant_with_fewer_running_jobs_goes_first(store: JobStore) -> None:
    for n in range(3):
        store.post(make_planned_job(f"{n}"))
        time.sleep(0.003)
    store.post(make_planned_job("theirs"), tenant=BOB)
    assert [store.claim_one().job.tenant for _ in range(4)] == [ALICE, BOB, ALICE, ALICE]


def test_a_worker_gets_only_what_its_stages_and_plugins_can_do(store: JobStore) -> None:
    store.post(make_planned_job("a", plugins=(PLUGIN, "dataset:digits")))
    assert store.claim(plugins=(PLUGIN, "dataset:other")) is None
    assert store.claim(plugins=()) is None
    assert store.claim(stages=("attack",)) is None
    assert store.claim(stages=()) is None
    assert (
        store.claim(stages=("attack", STAGE), plugins=(PLUGIN, "dataset:digits", "model:mlp"))
        is not None
    )


def test_a_job_that_a_worker_cannot_do_does_not_stand_in_the_way(store: JobStore) -> None:
    store.post(make_planned_job("new", plugins=(PLUGIN, "model:new")), priority=9)
    store.post(make_planned_job("known"))
    assert store.claim_one().job.params["tag"] == "known"


def test_a_draining_worker_gets_nothing(store: JobStore) -> None:
    store.post(make_planned_job("a"))
    _register(store, "w1")
    worker_registry.request_drain(store.db, "w1")
    assert store.claim("w1") is None
    assert store.claim("w2") is not None


def _register(store: JobStore, worker: str, host: str = "here") -> None:
    worker_registry.register_worker(
        store.db,
        worker,
        host=host,
        pid=1,
        stages=(STAGE,),
        device="cpu",
        threads=1,
        versions={},
        catalog=compute_sha256("c"),
    )


WRITES: dict[str, Callable[[JobStore, str, int], Any]] = {
    "save_checkpoint": lambda s, j, f: attempts.save_checkpoint(
        s.db, j, f, compute_sha256("late"), compute_sha256("key")
    ),
    "finish": lambda s, j, f: completion.finish_job(
        s.db, j, f, [make_artifact("late")], cache_key=compute_sha256("key"), code="late"
    ),
    "fail": lambda s, j, f: attempts.fail_attempt(s.db, j, f, Failure.ERROR, "late"),
    "cancelled": lambda s, j, f: attempts.cancel_attempt(s.db, j, f),
    "drained": lambda s, j, f: attempts.drain_attempt(s.db, j, f),
    "lose": lambda s, j, f: attempts.lose_attempt(s.db, j, f, "late", 3),
}


OVER: dict[str, Callable[[JobStore, Claim], Any]] = {
    "queued again": JobStore.lose_attempt,
    "with another": lambda store, claim: (store.lose_attempt(claim), store.claim_one("w2")),
    "succeeded": lambda store, claim: store.finish(claim),
    "failed": lambda store, claim: store.fail(claim),
}


COUNTED = ("outbox",)  # where a refused write is noted, to be counted


@pytest.mark.parametrize("over", OVER)
def test_whoever_comes_with_an_old_fence_writes_nothing(store: JobStore, over: str) -> None:
    root = make_planned_job("a")
    store.submit(root, make_planned_job("child", root))
    claim = store.claim_one()
    OVER[over](store, claim)
    before = store.dump(without=COUNTED)
    for name, write in WRITES.items():
        with pytest.raises(FencedOut):
            write(store, claim.job.id, claim.fence)
        assert store.dump(without=COUNTED) == before, name
    assert attempts.renew_lease(store.db, claim.job.id, claim.fence, 60, {"done": 1}) is None
    assert store.dump(without=COUNTED) == before


@pytest.mark.parametrize("fence", [-1, 0, 2])
def test_a_fence_that_was_never_given_out_is_refused(store: JobStore, fence: int) -> None:
    claim = store.claim_one() if store.post(make_planned_job("a")) else None
    assert claim is not None
    before = store.dump(without=COUNTED)
    for write in WRITES.values():
        with pytest.raises(FencedOut):
            write(store, claim.job.id, fence)
    assert store.dump(without=COUNTED) == before


def test_an_attempt_that_lost_its_lease_but_not_its_job_may_go_on(store: JobStore) -> None:
    """Only a reconciler takes a job away: until it has looked, the holder can still renew."""
    store.post(make_planned_job("a"))
    claim = store.claim_one(lease_s=-1)
    assert attempts.renew_lease(store.db, claim.job.id, claim.fence, 60) == ControlFlags(None, None)
    assert store.expire_leases() == []


def test_a_finish_and_an_expiry_at_the_same_moment_are_one_of_the_two(store: JobStore) -> None:
    for n in range(6):
        job_id = store.post(make_planned_job(f"{n}"))
        claim = store.claim_one(lease_s=-1)
        finished, expired = run_together(lambda c=claim: store.finish(c), store.expire_leases)
        state = store.get_job(job_id).state
        assert not isinstance(expired, Exception)
        if isinstance(finished, FencedOut):
            assert (state, expired) == ("queued", [job_id])
            store.finish(store.claim_one())
        else:
            assert (state, expired) == ("succeeded", [])


def test_renew_extends_the_lease_and_carries_progress_out(store: JobStore) -> None:
    job_id = store.post(make_planned_job("a"))
    claim = store.claim_one(lease_s=1)
    assert attempts.renew_lease(
        store.db, job_id, claim.fence, 300, {"done": 3, "total": 9, "loss": 0.5}
    ) == ControlFlags(None, None)
    job = store.get_job(job_id)
    assert job.progress == {"done": 3, "total": 9, "loss": 0.5}
    assert job.lease_until is not None
    assert job.lease_until > time.time() + 200
    assert store.list_events(job_id)[-1].data == {"done": 3, "total": 9, "loss": 0.5}


def test_the_same_progress_is_no_news(store: JobStore) -> None:
    job_id = store.post(make_planned_job("a"))
    claim = store.claim_one()
    for _ in range(3):
        attempts.renew_lease(store.db, job_id, claim.fence, 60, {"done": 1})
    attempts.renew_lease(store.db, job_id, claim.fence, 60)
    assert [e.kind for e in store.list_events(job_id)] == ["state", "state", "progress"]


def test_renew_carries_cancel_in(store: JobStore) -> None:
    job_id = store.post(make_planned_job("a"))
    claim = store.claim_one()
    control.cancel_job(store.db, ALICE, job_id)
    assert attempts.renew_lease(store.db, job_id, claim.fence, 60) == ControlFlags("cancel", None)
    attempts.cancel_attempt(store.db, job_id, claim.fence)
    assert store.list_states(job_id) == ["cancelled"]


def test_renew_carries_drain_in(store: JobStore) -> None:
    _register(store, "w1")
    job_id = store.post(make_planned_job("a"))
    claim = store.claim_one("w1")
    worker_registry.request_drain(store.db, "w1")
    assert attempts.renew_lease(store.db, job_id, claim.fence, 60) == ControlFlags(None, True)


def test_a_claim_finds_a_job_that_many_others_stand_before(store: JobStore) -> None:
    """A thousand workers are woken at once, and each is just taking one of the oldest jobs."""
    ids = [store.post(make_planned_job(f"{n:02}")) for n in range(CANDIDATE_JOBS + 3)]
    others = select(jobs.c.id).where(jobs.c.id.in_(ids[:-1])).with_for_update()
    claim = run_overlapping(store.db, lambda connection: connection.execute(others), store.claim)
    assert claim is not None
    assert claim.job.id in ids


def test_a_renewal_carries_the_heartbeat_of_its_worker(store: JobStore) -> None:
    _register(store, "w1")
    job_id = store.post(make_planned_job("a"))
    claim = store.claim_one("w1")
    with store.db.write() as connection:
        connection.execute(update(workers).values(seen_at=1.0))
    attempts.renew_lease(store.db, job_id, claim.fence, 60)
    assert worker_registry.list_workers(store.db)[0].seen_at == 1.0
    memory = WorkerMemory(5_000, 7_000)
    flags = attempts.renew_lease(store.db, job_id, claim.fence, 60, {"done": 1}, memory)
    assert flags == ControlFlags(None, False)
    (worker,) = worker_registry.list_workers(store.db)
    assert (worker.live, worker.memory_bytes, worker.device_memory_bytes) == (True, 5_000, 7_000)
    assert attempts.renew_lease(store.db, job_id, claim.fence + 1, 60, None, memory) is None


def test_a_drained_job_is_queued_again_free_of_charge(store: JobStore) -> None:
    job_id = store.post(make_planned_job("a"))
    claim = store.claim_one()
    attempts.save_checkpoint(
        store.db, job_id, claim.fence, compute_sha256("half"), compute_sha256("key")
    )
    assert attempts.drain_attempt(store.db, job_id, claim.fence) == {STAGE}
    job = store.get_job(job_id)
    assert (job.state, job.lost_count, job.attempt, job.lease_until) == ("queued", 0, 1, None)
    again = store.claim_one("w2")
    assert (again.job.attempt, again.fence, again.job.checkpoint) == (2, 2, compute_sha256("half"))


def test_a_cancel_that_comes_in_while_a_worker_leaves_is_obeyed(store: JobStore) -> None:
    job_id = store.post(make_planned_job("a"))
    claim = store.claim_one()
    control.cancel_job(store.db, ALICE, job_id)
    assert attempts.drain_attempt(store.db, job_id, claim.fence) == set()
    assert store.list_states(job_id) == ["cancelled"]
