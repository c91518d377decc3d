"""What a reconciler does in one look, and when it believes a lease that has run out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import pytest
import structlog
from sqlalchemy import insert, select, update

from services.reconciler import QueueDepth, count_missing_wakeups, reconcile_once, run_round
from shared.config import Settings
from shared.errors import TransientError
from shared.jobs import worker_registry
from shared.jobs.database import Database
from shared.jobs.monitoring import read_store_figures
from shared.jobs.queue import InMemoryWakeup
from shared.jobs.reconcile import ExpiryGuard, expire_leases
from shared.jobs.retention import DAY_S
from shared.jobs.tables import erasures, events, jobs
from tests.support.job_store import ALICE, STAGE, JobStore, make_planned_job
from tests.support.migrated import open_in_memory, open_migrated
from tests.support.retention import Shelf
from tests.support.waiting import TIMEOUT_S


@pytest.fixture
def store() -> Iterator[JobStore]:
    db = open_in_memory()
    yield JobStore(db)
    db.close()


@pytest.mark.parametrize(
    ("claimable", "depth", "sent"),
    [(0, 0, 0), (1, 0, 1), (2, 0, 2), (6, 6, 0), (4, 1, 3), (2, 9, 0)],
)
def test_the_queue_has_a_wakeup_for_each_counted_job(claimable: int, depth: int, sent: int) -> None:
    missing = count_missing_wakeups({"attack": claimable}, lambda _stage: depth)
    assert missing == ({"attack": sent} if sent else {})


def test_with_many_jobs_each_live_worker_that_stays_has_two_wakeups(store: JobStore) -> None:
    wakeup = InMemoryWakeup()
    for n in range(9):
        store.post(make_planned_job(f"{n}"))
    reconcile_once(store.db, wakeup, lambda _stage: 0, Settings(), ExpiryGuard(45, 5))
    assert wakeup.notified_stages == []
    for worker in ("w1", "w2", "leaving"):
        worker_registry.register_worker(
            store.db,
            worker,
            host="h",
            pid=1,
            stages=(STAGE,),
            device="cpu",
            threads=1,
            versions={},
            catalog="c",
        )
    worker_registry.request_drain(store.db, "leaving")
    reconcile_once(store.db, wakeup, lambda _stage: 1, Settings(), ExpiryGuard(45, 5))
    assert wakeup.notified_stages == [STAGE] * 3


def test_a_round_over_an_empty_store_sends_no_wakeup(store: JobStore) -> None:
    wakeup = InMemoryWakeup()
    worker_registry.register_worker(
        store.db,
        "w",
        host="h",
        pid=1,
        stages=(STAGE,),
        device="cpu",
        threads=1,
        versions={},
        catalog="c",
    )
    reconcile_once(store.db, wakeup, lambda _stage: 0, Settings(), ExpiryGuard(45, 5))
    assert wakeup.notified_stages == []


def test_a_lease_is_believed_after_one_lease_of_regular_looks() -> None:
    watch = ExpiryGuard(lease_s=45, interval_s=5)
    assert [watch.may_expire(1000 + t) for t in range(0, 60, 5)] == [False] * 9 + [True] * 3


@pytest.mark.parametrize(
    "woken", [1000 + 60 + 55, 1000 - 3600, 1000 + 3600], ids=["slept", "set back", "set on"]
)
def test_after_a_gap_between_looks_it_waits_one_lease_again(woken: float) -> None:
    """The machine slept, the store was away, or its clock was set: nobody could renew."""
    watch = ExpiryGuard(lease_s=45, interval_s=5)
    assert [watch.may_expire(1000 + t) for t in range(0, 65, 5)][-1]
    assert [watch.may_expire(woken + t) for t in (0, 5, 10, 15, 20, 25, 30, 35, 40)] == [False] * 9
    assert watch.may_expire(woken + 45)


def test_a_look_that_is_a_little_late_is_no_gap() -> None:
    watch = ExpiryGuard(lease_s=45, interval_s=5)
    assert [watch.may_expire(t) for t in (0, 20, 40, 60)] == [False, False, False, True]


@pytest.mark.parametrize(
    ("times", "set_back"), [((1000, 1005, 4600), False), ((1000, 1005, -2595), True)]
)
def test_it_sees_that_the_clock_was_set_back(times: tuple[float, ...], set_back: bool) -> None:
    watch = ExpiryGuard(lease_s=45, interval_s=5)
    assert watch.clock_set_back  # nobody knows what was before
    watch.clock_set_back = False
    for now in times:
        watch.may_expire(now)
    assert watch.clock_set_back is set_back


def test_after_the_clock_was_set_back_ages_are_bounded_until_there_is_none(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [3, 2, 0, 0]  # at the start, as nobody knows what was before, in three looks; then once
    monkeypatch.setattr("shared.jobs.reconcile.shift_future_queue_times", lambda _db: left.pop(0))
    watch = ExpiryGuard(45, 5)
    for _ in range(5):
        reconcile_once(store.db, InMemoryWakeup(), lambda _stage: 0, Settings(), watch)
    assert left == [0]
    watch.may_expire(time.time() + 3600)
    for _ in range(2):
        reconcile_once(store.db, InMemoryWakeup(), lambda _stage: 0, Settings(), watch)
    assert left == []


def test_a_store_that_took_no_write_is_looked_at_anew(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been away between two looks that are close, and may come back with another
    clock."""
    watch = ExpiryGuard(lease_s=45, interval_s=5)
    assert [watch.may_expire(1000 + t) for t in range(0, 65, 5)][-1]
    watch.clock_set_back = False

    def refuse(_work: object) -> NoReturn:
        raise TransientError("the job store takes nothing now")

    monkeypatch.setattr(store.db, "run_transaction", refuse)
    with pytest.raises(TransientError):
        expire_leases(store.db, watch, 3)
    assert watch.clock_set_back
    assert [watch.may_expire(1065 + t) for t in range(0, 50, 5)] == [False] * 9 + [True]


def test_a_store_that_took_no_writes_charges_nobody(tmp_path: Path) -> None:
    """SQLite can be read while another process holds its write lock; only the holders of leases are
    kept waiting."""
    db = open_migrated(tmp_path / "jobs.db")
    store = JobStore(db)
    job = store.post(make_planned_job("a"))
    store.claim_one()
    watch, now = ExpiryGuard(lease_s=0.4, interval_s=0.1), time.time()
    assert [watch.may_expire(now - left / 10) for left in range(6, -1, -1)][-1]
    other = Database(f"sqlite:///{tmp_path}/jobs.db")
    with ThreadPoolExecutor(1) as pool:
        with other.write() as connection:
            connection.execute(update(jobs).where(jobs.c.id == job).values(lease_until=1.0))
            looking = pool.submit(
                reconcile_once, db, InMemoryWakeup(), lambda _stage: 0, Settings(), watch
            )
            time.sleep(1)  # at least: longer than what is no gap
        looking.result(TIMEOUT_S)
    assert (store.get_job(job).state, store.get_job(job).lost_count) == ("running", 0)


def test_a_sleeping_machine_is_not_charged(store: JobStore) -> None:
    job = store.post(make_planned_job("a"))
    store.claim_one()
    watch = ExpiryGuard(lease_s=45, interval_s=5)
    store.end_lease(job)  # it slept through its lease, as the reconciler did
    reconcile_once(store.db, InMemoryWakeup(), lambda _stage: 0, Settings(), watch)
    assert (store.get_job(job).state, store.get_job(job).lost_count) == ("running", 0)


def test_a_line_about_a_lost_attempt_names_its_job_and_audit(store: JobStore) -> None:
    audit, (job_id,) = store.submit_audit(make_planned_job("a"))
    claim = store.claim_one()
    assert claim.audit == audit
    store.end_lease(job_id)
    with structlog.testing.capture_logs() as lines:
        reconcile_once(store.db, InMemoryWakeup(), lambda _stage: 0, Settings(), ExpiryGuard(0, 0))
    (line,) = [line for line in lines if line["event"] == "lease expired"]
    assert {name: line[name] for name in ("job", "stage", "tenant", "audit")} == {
        "job": job_id,
        "stage": STAGE,
        "tenant": ALICE,
        "audit": audit,
    }


def test_a_round_ends_all_attempts_whose_lease_is_over(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where more workers are lost at once than one transaction takes."""
    monkeypatch.setattr("shared.jobs.reconcile.LEASES_PER_TRANSACTION", 2)
    for n in range(5):
        store.post(make_planned_job(f"{n}"))
    for job in [store.claim_one().job.id for _ in range(5)]:
        store.end_lease(job)
    reconcile_once(store.db, InMemoryWakeup(), lambda _stage: 0, Settings(), ExpiryGuard(0, 0))
    with store.db.read() as connection:
        states = connection.execute(select(jobs.c.state, jobs.c.lost_count)).all()
    assert [tuple(row) for row in states] == [("queued", 1)] * 5


class Round:
    """Rounds of a reconciler, and what it has to do besides jobs."""

    def __init__(self, store: JobStore) -> None:
        self.shelf = Shelf(store)
        self.depth: QueueDepth = lambda stage: 0

    def run(self) -> list[str]:
        """What it logs, but for what it has removed."""
        with structlog.testing.capture_logs() as lines:
            run_round(
                self.shelf.db, self.shelf.artifacts, InMemoryWakeup(), self.depth, Settings(),
                ExpiryGuard(45, 5), self.shelf.collector,
            )  # fmt: skip
        return [f"{one['event']}: {one['error']}" for one in lines if "error" in one]

    def add_work(self) -> None:
        """A job whose events have expired, and a deletion that has left traces."""
        job, _ = self.shelf.submit("a")
        self.shelf.run()
        self.shelf.jobs.submit(make_planned_job("next"))
        worker_registry.register_worker(
            self.shelf.db, "w", host="h", pid=1, stages=(STAGE,), device="cpu", threads=1,
            versions={}, catalog="c",
        )  # fmt: skip
        with self.shelf.db.write() as connection:
            ended = update(jobs).where(jobs.c.id == job)
            connection.execute(ended.values(finished_at=self.shelf.db.now - 31 * DAY_S))
            connection.execute(insert(erasures).values(id="era_1", created_at=1.0))

    def is_done(self) -> tuple[bool, bool]:
        """Whether events have expired, and whether the traces of the deletion are gone."""
        with self.shelf.db.read() as connection:
            left = connection.execute(select(erasures.c.id)).all()
            kept = connection.execute(select(events.c.seq).where(events.c.seq == 2)).all()
        return not kept, not left


def test_expiry_and_deletions_go_on_while_the_broker_is_away(store: JobStore) -> None:
    def refuse(stage: str) -> NoReturn:
        raise ConnectionError("refused")

    rounds = Round(store)
    rounds.add_work()
    rounds.depth = refuse
    assert rounds.run() == ["wake-ups were not sent; retrying: ConnectionError: refused"]
    assert rounds.is_done() == (True, True)


def test_a_fault_of_the_collector_is_called_so_and_holds_up_nothing(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> NoReturn:
        raise ZeroDivisionError

    rounds = Round(store)
    rounds.add_work()
    monkeypatch.setattr("shared.jobs.expiry.expire_answers", fail)
    assert rounds.run() == ["what has expired was not removed; retrying: ZeroDivisionError"]
    assert rounds.is_done() == (False, True)


def test_a_round_counts_what_has_ended_and_is_seen(store: JobStore) -> None:
    store.run_job("a")
    assert Round(store).run() == []
    figures = read_store_figures(store.db)
    assert 0 <= figures.service_ages_s["reconciler"] < 60
    assert figures.totals["jobs_finished"] == {(STAGE, "succeeded"): 1}
    assert figures.outbox_size == 0


def test_what_cannot_be_counted_holds_up_nothing(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_db: Database) -> NoReturn:
        raise ZeroDivisionError

    store.run_job("a")
    monkeypatch.setattr("services.reconciler.process_outbox", fail)
    assert Round(store).run() == ["what has ended was not counted; retrying: ZeroDivisionError"]
    figures = read_store_figures(store.db)
    assert (figures.outbox_size, "reconciler" in figures.service_ages_s) == (1, True)
