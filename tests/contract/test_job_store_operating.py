"""What an operator asks of workers and stages: drain, pause."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update

from shared.errors import NotFound
from shared.jobs import attempts, expiry, reconcile, stage_pauses, worker_drains, worker_registry
from shared.jobs.tables import workers
from shared.jobs.worker_registry import FORGET_AFTER_S
from tests.support.job_store import (
    ALICE,
    BOB,
    STAGE,
    JobStore,
    make_planned_job,
    run_overlapping,
)


def register(store: JobStore, worker: str = "w1") -> None:
    registration: dict[str, Any] = {
        "host": "here", "pid": 7, "stages": (STAGE,), "device": "cpu", "threads": 2, "versions": {},
        "catalog": "c",
    }  # fmt: skip
    worker_registry.register_worker(store.db, worker, **registration)


def drains(store: JobStore, worker: str = "w1") -> bool:
    (seen,) = (w for w in worker_registry.list_workers(store.db) if w.id == worker)
    assert (seen.drained_at is not None) == worker_drains.is_drained(store.db, worker)
    return seen.drain


def test_a_drained_worker_gives_its_job_back_and_takes_none_until_it_is_undrained(
    store: JobStore,
) -> None:
    register(store)
    job_id = store.post(make_planned_job("a"))
    claim = store.claim_one("w1")
    for _ in range(2):
        worker_drains.drain_worker(store.db, "w1")
    flags = attempts.renew_lease(store.db, job_id, claim.fence, 60)
    assert flags is not None
    assert flags.drain
    attempts.drain_attempt(store.db, job_id, claim.fence)
    assert store.claim("w1") is None
    assert (drains(store), store.get_job(job_id).lost_count) == (True, 0)
    assert [worker_drains.undrain_worker(store.db, "w1") for _ in range(2)] == [{STAGE}] * 2
    assert not drains(store)
    assert store.claim_one("w1").job.id == job_id


def test_a_worker_that_is_started_again_under_a_drained_name_takes_nothing(
    store: JobStore,
) -> None:
    register(store)
    worker_drains.drain_worker(store.db, "w1")
    worker_registry.unregister_worker(store.db, "w1")
    worker_drains.drain_worker(store.db, "w1")  # the name is known
    register(store)
    store.post(make_planned_job("a"))
    assert drains(store)
    assert store.claim("w1") is None
    worker_registry.unregister_worker(store.db, "w1")
    assert worker_drains.undrain_worker(store.db, "w1") == set()
    register(store)
    assert store.claim("w1") is not None


@pytest.mark.parametrize("is_killed", [False, True])
def test_the_drain_of_a_process_ends_with_it_and_that_of_a_name_does_not(
    store: JobStore, is_killed: bool
) -> None:
    """In a container the next process has the same number."""
    names = (f"{STAGE}@here-7", "w1")
    for name in names:
        register(store, name)
        worker_drains.drain_worker(store.db, name)
    with store.db.write() as connection:
        connection.execute(update(workers).values(seen_at=store.db.now - 2 * FORGET_AFTER_S))
    if is_killed:
        assert expiry.expire_workers(store.db) == 2
    for name in names:
        worker_registry.unregister_worker(store.db, name)  # as the next one does first
        register(store, name)
    assert [drains(store, name) for name in names] == [False, True]


@pytest.mark.slow
def test_a_worker_that_registers_while_it_is_undrained_takes_jobs(
    postgres_store: JobStore,
) -> None:
    store = postgres_store
    store.clear()
    register(store)
    worker_drains.drain_worker(store.db, "w1")
    worker_registry.unregister_worker(store.db, "w1")
    run_overlapping(
        store.db, lambda c: worker_drains._unmark(store.db, "w1", c), lambda: register(store)
    )
    assert not drains(store)


@pytest.mark.slow
def test_a_worker_that_leaves_is_gone_even_if_its_row_is_held(postgres_store: JobStore) -> None:
    """By its own heartbeat, for a moment."""
    store = postgres_store
    store.clear()
    register(store)
    run_overlapping(
        store.db,
        lambda c: c.execute(update(workers).values(memory_bytes=1)),
        lambda: worker_registry.unregister_worker(store.db, "w1"),
    )
    assert worker_registry.list_workers(store.db) == []


def test_a_worker_that_shuts_down_is_not_undrained(store: JobStore) -> None:
    register(store)
    worker_drains.drain_worker(store.db, "w1")
    worker_registry.request_drain(store.db, "w1")
    assert not worker_drains.is_drained(store.db, "w1")  # it need not wait: it is to end
    worker_drains.undrain_worker(store.db, "w1")
    store.post(make_planned_job("a"))
    assert store.claim("w1") is None
    worker_registry.unregister_worker(store.db, "w1")
    register(store)  # the next one of the name
    assert store.claim("w1") is not None


def test_a_worker_that_was_never_seen_is_not_there(store: JobStore) -> None:
    before = store.dump()
    for change in (worker_drains.drain_worker, worker_drains.undrain_worker):
        with pytest.raises(NotFound, match="there is no worker w9"):
            change(store.db, "w9")
    assert store.dump() == before


def test_no_job_of_a_paused_stage_is_claimed_whoever_posted_it(store: JobStore) -> None:
    running = store.post(make_planned_job("running"))
    claim = store.claim_one()
    queued = store.post(make_planned_job("a"))
    store.submit(make_planned_job("b"), tenant=BOB)
    for _ in range(2):
        stage_pauses.pause_stage(store.db, STAGE)
    assert list(stage_pauses.list_paused_stages(store.db)) == [STAGE]
    assert store.claim() is None
    assert reconcile.count_claimable(store.db, {STAGE: 9}) == {}
    store.finish(claim)  # what runs goes on
    assert store.list_states(running, queued) == ["succeeded", "queued"]
    assert [stage_pauses.resume_stage(store.db, STAGE) for _ in range(2)] == [{STAGE}, set()]
    assert reconcile.count_claimable(store.db, {STAGE: 9}) == {STAGE: 2}
    assert {store.claim_one().job.tenant for _ in range(2)} == {ALICE, BOB}


def test_other_stages_go_on_beside_a_paused_one(store: JobStore) -> None:
    store.post(make_planned_job("a"))
    other = store.post(make_planned_job("b", stage="attack", plugins=("stage:attack",)))
    stage_pauses.pause_stage(store.db, STAGE)
    claim = store.claim(stages=(STAGE, "attack"), plugins=("stage:attack", "stage:train"))
    assert claim is not None
    assert claim.job.id == other
