"""Whose job is next: tenants take turns, priority orders within a tenant, waiting ages, a lost job pauses."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import pytest
from sqlalchemy import Connection, select, update

from shared.errors import FencedOut
from shared.jobs import claims, reconcile
from shared.jobs.dispatch import TENANTS, Dispatcher
from shared.jobs.tables import jobs
from tests.support.jobs import ALICE, BOB, PLUGIN, STAGE, Store, planned
from tests.support.waiting import PATIENCE


def served(store: Store, n: int, worker: str = "w1") -> list[str]:
    """Whose jobs `n` claims get, each of which is done at once."""
    had = []
    for _ in range(n):
        claim = store.take(worker)
        had.append(claim.job.tenant)
        store.finish(claim)
    return had


def test_priority_of_one_tenant_does_not_starve_another(store: Store) -> None:
    for n in range(20):
        store.post(planned(f"a{n}"), priority=100)
        store.post(planned(f"b{n}"), tenant=BOB)
    assert Counter(served(store, 20)) == {ALICE: 10, BOB: 10}


def test_a_tenant_with_few_jobs_is_not_behind_one_with_many(store: Store) -> None:
    for n in range(30):
        store.post(planned(f"a{n}"))
    for n in range(3):
        store.post(planned(f"b{n}"), tenant=BOB)
    assert Counter(served(store, 7))[BOB] == 3


def test_turns_go_round_and_nobody_is_left_out(store: Store) -> None:
    names = [f"tenant-{n:03}" for n in range(2 * TENANTS + 5)]  # more than one claim looks at
    for name in names:
        for n in range(2):
            store.post(planned(f"{n}"), tenant=name)
    had = served(store, 2 * len(names))
    assert Counter(had[: len(names)]) == dict.fromkeys(names, 1)
    assert Counter(had) == dict.fromkeys(names, 2)


def test_among_many_tenants_a_busy_one_waits(store: Store) -> None:
    for name in ("a", "b", "c"):
        for n in range(3):
            store.post(planned(f"{n}"), tenant=name)
    first = store.take("w1").job.tenant
    # another worker, which does not know whose turn it was: what runs says it
    assert first not in {store.take("w2").job.tenant, store.take("w3").job.tenant}


def test_waiting_ages(store: Store) -> None:
    """A point of priority is worth a minute of waiting: what has waited longer than that goes first."""
    old = store.post(planned("old"))
    older = store.post(planned("older"))
    store.post(planned("urgent"), priority=2)
    with store.db.write() as connection:
        for job, waited in ((old, 90), (older, 150)):
            row = update(jobs).where(jobs.c.id == job)
            connection.execute(row.values(queued_at=jobs.c.queued_at - waited, rank=jobs.c.rank - waited))
    assert [store.take().job.params["tag"] for _ in range(3)] == ["older", "urgent", "old"]


def test_the_jobs_of_one_submission_keep_the_order_of_the_plan(store: Store) -> None:
    tags = [f"{n}" for n in range(20)]
    store.audit(*(planned(tag) for tag in tags))
    assert [store.take().job.params["tag"] for _ in tags] == tags


def test_a_lost_job_pauses_and_lets_others_pass(store: Store) -> None:
    poison = store.post(planned("poison"))
    store.post(planned("healthy"))
    claim = store.take()
    assert claim.job.id == poison
    claims.lose(store.db, poison, claim.fence, "it died", 3, 60)
    assert store.take().job.params["tag"] == "healthy"
    assert store.claim() is None  # it pauses still
    with store.db.read() as connection:
        pause = select(jobs.c.not_before - store.db.now).where(jobs.c.id == poison)
        first = connection.execute(pause).scalar_one()
    assert 0 < first <= 60
    store.expire_pause(poison)
    again = store.take()
    assert (again.job.id, again.job.lost_count) == (poison, 1)
    claims.lose(store.db, poison, again.fence, "it died", 3, 60)
    with store.db.read() as connection:
        assert 50 < connection.execute(pause).scalar_one() <= 120  # twice as long


def test_a_job_that_is_given_back_is_not_charged_and_keeps_its_place(store: Store) -> None:
    first = store.post(planned("first"))
    time.sleep(0.003)  # SQLite's clock counts milliseconds
    store.post(planned("second"))
    claim = store.take()
    assert claims.give_back(store.db, first, claim.fence, "the artifact store did not answer") == {STAGE}
    with pytest.raises(FencedOut):
        claims.give_back(store.db, first, claim.fence, "again")
    job = store.job(first)
    assert (job.state, job.lost_count, store.path(first)) == ("queued", 0, ["queued", "running", "queued"])
    assert store.take().job.id == first


def test_a_claim_whose_answer_was_lost_is_found_again(store: Store) -> None:
    job = store.post(planned("a"))
    dispatcher = Dispatcher(store.db, "w1", (STAGE,), (PLUGIN,))
    assert dispatcher.find("token") is None
    claim = dispatcher.claim(60, "token")
    assert claim is not None
    assert dispatcher.find("token") == claim
    assert dispatcher.find("another") is None
    assert Dispatcher(store.db, "w2", (STAGE,), (PLUGIN,)).find("token") is None
    store.lose(claim)
    assert dispatcher.find("token") is None  # it is nobody's
    assert store.take("w1").job.id == job
    assert dispatcher.find("token") is None  # and now another claim's


def test_an_event_says_that_an_attempt_was_charged_and_how_long_its_job_pauses(store: Store) -> None:
    job = store.post(planned("a"))
    claim = store.take()
    claims.give_back(store.db, job, claim.fence, "the store was away", pause=3)
    store.expire_pause(job)
    claim = store.take()
    claims.lose(store.db, job, claim.fence, "it died", 3, 8)
    free, charged = (e.data for e in store.events(job) if e.data["to"] == "queued" and e.data["from"])
    assert (free["because"], free["pause_s"], "lost_count" in free) == ("the store was away", 3, False)
    assert (charged["because"], charged["lost_count"]) == ("it died", 1)
    assert 4 <= charged["pause_s"] <= 8


def test_leases_and_pauses_from_a_clock_that_was_set_back_are_shortened(store: Store) -> None:
    """A job that pauses longer than its lost attempts explain is claimed at once, others go on pausing."""
    running = store.post(planned("running"))
    store.take()
    pausing = []
    for tag in ("pausing", "stuck"):
        pausing.append(store.post(planned(tag)))
        claims.lose(store.db, pausing[-1], store.take().fence, "it died", 3, 10)
    stuck = pausing[-1]
    with store.db.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == running).values(lease_until=jobs.c.lease_until + 3600))
        connection.execute(update(jobs).where(jobs.c.id == stuck).values(not_before=jobs.c.not_before + 120))
    assert reconcile.bound_times(store.db, 45, 10) == 2
    assert reconcile.bound_times(store.db, 45, 10) == 0
    with store.db.read() as connection:
        left = select(jobs.c.lease_until - store.db.now).where(jobs.c.id == running)
        assert 0 < connection.execute(left).scalar_one() <= 45
    assert store.take().job.id == stuck
    assert store.claim() is None


def _queued_an_hour_ahead(store: Store, *ids: str) -> None:
    """As if the clock had been set back by an hour since."""
    with store.db.write() as connection:
        ahead = {"queued_at": jobs.c.queued_at + 3600, "rank": jobs.c.rank + 3600}
        connection.execute(update(jobs).where(jobs.c.id.in_(ids)).values(**ahead))


def test_what_was_queued_before_the_clock_was_set_back_is_not_behind_what_comes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "SLICE", 2)
    monkeypatch.setattr(reconcile, "MOST", 4)
    tags = [f"{n}" for n in range(5)]
    _, ids = store.audit(*(planned(tag) for tag in tags[:-1]))
    low = store.post(planned("4"), priority=-1)
    _queued_an_hour_ahead(store, *ids, low)
    assert [reconcile.bound_ages(store.db) for _ in range(3)] == [4, 1, 0]
    time.sleep(0.003)  # SQLite's clock counts milliseconds
    store.post(planned("new"))
    taken = [store.take().job.params["tag"] for _ in range(6)]
    assert (set(taken[:4]), taken[4:]) == ({"0", "1", "2", "3"}, ["new", "4"])


def test_jobs_of_before_the_clock_was_set_back_keep_their_order(store: Store) -> None:
    tags = [f"{n}" for n in range(5)]
    _, ids = store.audit(*(planned(tag) for tag in tags))
    _queued_an_hour_ahead(store, *ids)
    assert reconcile.bound_ages(store.db) == 5
    assert [store.take().job.params["tag"] for _ in tags] == tags


def test_what_is_queued_while_ages_are_bounded_is_left_as_it_is(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    old = [store.post(planned(f"{n}")) for n in range(3)]
    _queued_an_hour_ahead(store, *old)
    monkeypatch.setattr(reconcile, "SLICE", 1)
    new: list[str] = []
    write = store.db.retrying

    def writing(work: Callable[[Connection], int]) -> int:
        monkeypatch.setattr(store.db, "retrying", write)
        new.extend(store.post(planned(f"new {n}")) for n in range(8))
        return write(work)

    monkeypatch.setattr(store.db, "retrying", writing)
    assert reconcile.bound_ages(store.db) == 3
    with store.db.read() as connection:
        age = select(store.db.now - jobs.c.queued_at).where(jobs.c.id.in_(new))
        assert all(0 <= float(seconds) < PATIENCE for seconds in connection.execute(age).scalars())
    assert len(new) == 8


def test_a_job_that_was_queued_before_the_clock_was_set_back_goes_back_before_what_comes(store: Store) -> None:
    old = store.post(planned("old"))
    _queued_an_hour_ahead(store, old)
    claim = store.take()
    claims.give_back(store.db, old, claim.fence, "the artifact store did not answer")
    time.sleep(0.003)  # SQLite's clock counts milliseconds
    store.post(planned("new"))
    assert store.take().job.id == old
