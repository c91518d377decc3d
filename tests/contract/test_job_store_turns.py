"""Whose job is next: tenants take turns, priority orders within a tenant, waiting ages, a lost job
pauses."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import pytest
from sqlalchemy import Connection, select, update

from shared.errors import FencedOut
from shared.jobs import attempts, reconcile
from shared.jobs.dispatch import MAX_TENANTS, Dispatcher
from shared.jobs.tables import jobs
from tests.support.job_store import ALICE, BOB, PLUGIN, STAGE, JobStore, make_planned_job
from tests.support.waiting import TIMEOUT_S


def served(store: JobStore, n: int, worker: str = "w1") -> list[str]:
    """Whose jobs `n` claims get, each of which is done at once."""
    had = []
    for _ in range(n):
        claim = store.claim_one(worker)
        had.append(claim.job.tenant)
        store.finish(claim)
    return had


def test_priority_of_one_tenant_does_not_starve_another(store: JobStore) -> None:
    for n in range(20):
        store.post(make_planned_job(f"a{n}"), priority=100)
        store.post(make_planned_job(f"b{n}"), tenant=BOB)
    assert Counter(served(store, 20)) == {ALICE: 10, BOB: 10}


def test_a_tenant_with_few_jobs_is_not_behind_one_with_many(store: JobStore) -> None:
    for n in range(30):
        store.post(make_planned_job(f"a{n}"))
    for n in range(3):
        store.post(make_planned_job(f"b{n}"), tenant=BOB)
    assert Counter(served(store, 7))[BOB] == 3


def test_turns_go_round_and_nobody_is_left_out(store: JobStore) -> None:
    names = [f"tenant-{n:03}" for n in range(2 * MAX_TENANTS + 5)]  # more than one claim looks at
    for name in names:
        for n in range(2):
            store.post(make_planned_job(f"{n}"), tenant=name)
    had = served(store, 2 * len(names))
    assert Counter(had[: len(names)]) == dict.fromkeys(names, 1)
    assert Counter(had) == dict.fromkeys(names, 2)


def test_among_many_tenants_a_busy_one_waits(store: JobStore) -> None:
    for name in ("a", "b", "c"):
        for n in range(3):
            store.post(make_planned_job(f"{n}"), tenant=name)
    first = store.claim_one("w1").job.tenant
    # another worker, which does not know whose turn it was: what runs says it
    assert first not in {store.claim_one("w2").job.tenant, store.claim_one("w3").job.tenant}


def test_waiting_ages(store: JobStore) -> None:
    """A point of priority is worth a minute of waiting: what has waited longer than that goes
    first."""
    old = store.post(make_planned_job("old"))
    older = store.post(make_planned_job("older"))
    store.post(make_planned_job("urgent"), priority=2)
    with store.db.write() as connection:
        for job, waited in ((old, 90), (older, 150)):
            row = update(jobs).where(jobs.c.id == job)
            connection.execute(
                row.values(queued_at=jobs.c.queued_at - waited, rank=jobs.c.rank - waited)
            )
    assert [store.claim_one().job.params["tag"] for _ in range(3)] == ["older", "urgent", "old"]


def test_the_jobs_of_one_submission_keep_the_order_of_the_plan(store: JobStore) -> None:
    tags = [f"{n}" for n in range(20)]
    store.submit_audit(*(make_planned_job(tag) for tag in tags))
    assert [store.claim_one().job.params["tag"] for _ in tags] == tags


def test_a_lost_job_pauses_and_lets_others_pass(store: JobStore) -> None:
    poison = store.post(make_planned_job("poison"))
    store.post(make_planned_job("healthy"))
    claim = store.claim_one()
    assert claim.job.id == poison
    attempts.lose_attempt(store.db, poison, claim.fence, "it died", 3, 60)
    assert store.claim_one().job.params["tag"] == "healthy"
    assert store.claim() is None  # it pauses still
    with store.db.read() as connection:
        pause = select(jobs.c.not_before - store.db.now).where(jobs.c.id == poison)
        first = connection.execute(pause).scalar_one()
    assert 0 < first <= 60
    store.expire_pause(poison)
    again = store.claim_one()
    assert (again.job.id, again.job.lost_count) == (poison, 1)
    attempts.lose_attempt(store.db, poison, again.fence, "it died", 3, 60)
    with store.db.read() as connection:
        assert 50 < connection.execute(pause).scalar_one() <= 120  # twice as long


def test_a_job_that_is_given_back_is_not_charged_and_keeps_its_place(store: JobStore) -> None:
    first = store.post(make_planned_job("first"))
    time.sleep(0.003)  # SQLite's clock counts milliseconds
    store.post(make_planned_job("second"))
    claim = store.claim_one()
    assert attempts.requeue_attempt(
        store.db, first, claim.fence, "the artifact store did not answer"
    ) == {STAGE}
    with pytest.raises(FencedOut):
        attempts.requeue_attempt(store.db, first, claim.fence, "again")
    job = store.get_job(first)
    assert (job.state, job.lost_count, store.list_transitions(first)) == (
        "queued",
        0,
        ["queued", "running", "queued"],
    )
    assert store.claim_one().job.id == first


def test_a_claim_whose_answer_was_lost_is_found_again(store: JobStore) -> None:
    job = store.post(make_planned_job("a"))
    dispatcher = Dispatcher(store.db, "w1", (STAGE,), (PLUGIN,))
    assert dispatcher.find_claim("token") is None
    claim = dispatcher.claim(60, "token")
    assert claim is not None
    assert dispatcher.find_claim("token") == claim
    assert dispatcher.find_claim("another") is None
    assert Dispatcher(store.db, "w2", (STAGE,), (PLUGIN,)).find_claim("token") is None
    store.lose_attempt(claim)
    assert dispatcher.find_claim("token") is None  # it is nobody's
    assert store.claim_one("w1").job.id == job
    assert dispatcher.find_claim("token") is None  # and now another claim's


def test_an_event_says_that_an_attempt_was_charged_and_how_long_its_job_pauses(
    store: JobStore,
) -> None:
    job = store.post(make_planned_job("a"))
    claim = store.claim_one()
    attempts.requeue_attempt(store.db, job, claim.fence, "the store was away", pause_s=3)
    store.expire_pause(job)
    claim = store.claim_one()
    attempts.lose_attempt(store.db, job, claim.fence, "it died", 3, 8)
    free, charged = (
        e.data for e in store.list_events(job) if e.data["to"] == "queued" and e.data["from"]
    )
    assert (free["because"], free["pause_s"], "lost_count" in free) == (
        "the store was away",
        3,
        False,
    )
    assert (charged["because"], charged["lost_count"]) == ("it died", 1)
    assert 4 <= charged["pause_s"] <= 8


def test_leases_and_pauses_from_a_clock_that_was_set_back_are_shortened(store: JobStore) -> None:
    """A job that pauses longer than its lost attempts explain is claimed at once, others go on
    pausing."""
    running = store.post(make_planned_job("running"))
    store.claim_one()
    pausing = []
    for tag in ("pausing", "stuck"):
        pausing.append(store.post(make_planned_job(tag)))
        attempts.lose_attempt(store.db, pausing[-1], store.claim_one().fence, "it died", 3, 10)
    stuck = pausing[-1]
    with store.db.write() as connection:
        connection.execute(
            update(jobs).where(jobs.c.id == running).values(lease_until=jobs.c.lease_until + 3600)
        )
        connection.execute(
            update(jobs).where(jobs.c.id == stuck).values(not_before=jobs.c.not_before + 120)
        )
    assert reconcile.clamp_future_times(store.db, 45, 10) == 2
    assert reconcile.clamp_future_times(store.db, 45, 10) == 0
    with store.db.read() as connection:
        left = select(jobs.c.lease_until - store.db.now).where(jobs.c.id == running)
        assert 0 < connection.execute(left).scalar_one() <= 45
    assert store.claim_one().job.id == stuck
    assert store.claim() is None


def _queued_an_hour_ahead(store: JobStore, *ids: str) -> None:
    """As if the clock had been set back by an hour since."""
    with store.db.write() as connection:
        ahead = {"queued_at": jobs.c.queued_at + 3600, "rank": jobs.c.rank + 3600}
        connection.execute(update(jobs).where(jobs.c.id.in_(ids)).values(**ahead))


def test_what_was_queued_before_the_clock_was_set_back_is_not_behind_what_comes(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "ROWS_PER_TRANSACTION", 2)
    monkeypatch.setattr(reconcile, "MAX_ROWS", 4)
    tags = [f"{n}" for n in range(5)]
    _, ids = store.submit_audit(*(make_planned_job(tag) for tag in tags[:-1]))
    low = store.post(make_planned_job("4"), priority=-1)
    _queued_an_hour_ahead(store, *ids, low)
    assert [reconcile.shift_future_queue_times(store.db) for _ in range(3)] == [4, 1, 0]
    time.sleep(0.003)  # SQLite's clock counts milliseconds
    store.post(make_planned_job("new"))
    taken = [store.claim_one().job.params["tag"] for _ in range(6)]
    assert (set(taken[:4]), taken[4:]) == ({"0", "1", "2", "3"}, ["new", "4"])


def test_jobs_of_before_the_clock_was_set_back_keep_their_order(store: JobStore) -> None:
    tags = [f"{n}" for n in range(5)]
    _, ids = store.submit_audit(*(make_planned_job(tag) for tag in tags))
    _queued_an_hour_ahead(store, *ids)
    assert reconcile.shift_future_queue_times(store.db) == 5
    assert [store.claim_one().job.params["tag"] for _ in tags] == tags


def test_what_is_queued_while_ages_are_bounded_is_left_as_it_is(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = [store.post(make_planned_job(f"{n}")) for n in range(3)]
    _queued_an_hour_ahead(store, *old)
    monkeypatch.setattr(reconcile, "ROWS_PER_TRANSACTION", 1)
    new: list[str] = []
    write = store.db.run_transaction

    def writing(work: Callable[[Connection], int]) -> int:
        monkeypatch.setattr(store.db, "run_transaction", write)
        new.extend(store.post(make_planned_job(f"new {n}")) for n in range(8))
        return write(work)

    monkeypatch.setattr(store.db, "run_transaction", writing)
    assert reconcile.shift_future_queue_times(store.db) == 3
    with store.db.read() as connection:
        age = select(store.db.now - jobs.c.queued_at).where(jobs.c.id.in_(new))
        assert all(0 <= float(seconds) < TIMEOUT_S for seconds in connection.execute(age).scalars())
    assert len(new) == 8


def test_a_job_that_was_queued_before_the_clock_was_set_back_goes_back_before_what_comes(
    store: JobStore,
) -> None:
    old = store.post(make_planned_job("old"))
    _queued_an_hour_ahead(store, old)
    claim = store.claim_one()
    attempts.requeue_attempt(store.db, old, claim.fence, "the artifact store did not answer")
    time.sleep(0.003)  # SQLite's clock counts milliseconds
    store.post(make_planned_job("new"))
    assert store.claim_one().job.id == old
