"""Any sequence of what users, two workers and a reconciler do leaves the store as a small model
says.

Ids are random, so no rule has a precondition that depends on them: one that has nothing to do
returns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import func, select

from shared.errors import Conflict, FencedOut
from shared.jobs import attempts, control
from shared.jobs.database import Database
from shared.jobs.records import Claim
from shared.jobs.tables import events, jobs, metadata
from tests.support.job_store import ALICE, JobStore, compute_sha256, make_planned_job

pytestmark = pytest.mark.slow

# a, b -> d -> e; a -> c
GRAPH = {"a": "", "b": "", "c": "a", "d": "ab", "e": "d"}
MAX_LOST = 3


def ancestry(tag: str) -> list[str]:
    """The tag's parents, theirs, and itself; parents first."""
    return list(dict.fromkeys([x for parent in GRAPH[tag] for x in ancestry(parent)] + [tag]))


@dataclass
class Modelled:
    tag: str
    parents: list[str]
    priority: int
    state: str = ""
    fence: int = 0
    lost: int = 0
    stop: bool = False  # told to cancel
    lapsed: bool = False  # its lease has run out
    shared: bool = True  # answers for an equal submission


class Model(dict[str, Modelled]):
    """What the store is to hold, by job id."""

    def ready(self, job: Modelled) -> str:
        return "queued" if all(self[p].state == "succeeded" for p in job.parents) else "waiting"

    def waiting_children(self, job_id: str) -> list[str]:
        return [i for i, j in self.items() if job_id in j.parents and j.state == "waiting"]

    def end(self, job_id: str, state: str) -> None:
        job = self[job_id]
        job.state, job.stop = state, False
        job.shared = job.shared and state == "succeeded"
        for child in self.waiting_children(job_id):
            if state != "succeeded":
                self.end(child, "failed")
            else:
                self[child].state = self.ready(self[child])

    def lose(self, job_id: str) -> None:
        job = self[job_id]
        job.lost += 1
        if job.stop:
            self.end(job_id, "cancelled")
        elif job.lost == MAX_LOST:
            self.end(job_id, "failed")
        else:
            job.state = "queued"

    def cancel(self, job_id: str) -> None:
        if self[job_id].state == "running":
            if not self[job_id].stop:
                self[job_id].stop = True
                self.disown(job_id)
        elif self[job_id].state in ("waiting", "queued", "paused"):
            self.end(job_id, "cancelled")

    def disown(self, job_id: str) -> None:
        self[job_id].shared = False
        for child in self.waiting_children(job_id):
            self.disown(child)

    def equal(self, tag: str) -> str | None:
        return next((i for i, j in self.items() if j.tag == tag and j.shared), None)


ANY = st.integers(0, 1000)
WORKER = st.sampled_from(["w1", "w2"])


class Machine(RuleBasedStateMachine):
    def __init__(self, store: JobStore) -> None:
        super().__init__()
        store.clear()
        self.store, self.db, self.model = store, store.db, Model()
        self.hands: dict[str, Claim] = {}  # what each worker believes it holds

    def pick(self, n: int) -> str | None:
        return list(self.model)[n % len(self.model)] if self.model else None

    @rule(tag=st.sampled_from(sorted(GRAPH)), priority=st.integers(0, 1))
    def submit(self, tag: str, priority: int) -> None:
        tags = ancestry(tag)
        plan = [make_planned_job(t, *[make_planned_job(p) for p in GRAPH[t]]) for t in tags]
        done = self.store.submit(*plan, priority=priority)
        ids = {t: done.jobs[compute_sha256(t)] for t in tags}
        for t in tags:
            equal = self.model.equal(t)
            assert (ids[t] in done.created, ids[t] == equal) == (equal is None, equal is not None)
            if equal is None:
                job = Modelled(t, [ids[p] for p in GRAPH[t]], priority)
                job.state = self.model.ready(job)
                self.model[ids[t]] = job

    @rule(worker=WORKER, dies=st.booleans())
    def claim(self, worker: str, dies: bool) -> None:
        if worker in self.hands:
            return
        claim = self.store.claim(worker, lease_s=-1 if dies else 600)
        queued = [j for j in self.model.values() if j.state == "queued"]
        assert (claim is None) == (not queued)
        if claim is not None:
            job = self.model[claim.job.id]
            assert job.state == "queued"
            assert job.priority == max(j.priority for j in queued)
            job.state, job.fence, job.lapsed = "running", job.fence + 1, dies
            assert claim.fence == job.fence
            self.hands[worker] = claim

    @rule(worker=WORKER, lets_go=st.booleans())
    def renew(self, worker: str, lets_go: bool) -> None:
        if (claim := self.hands.get(worker)) is None:
            return
        orders = attempts.renew_lease(
            self.db, claim.job.id, claim.fence, -1 if lets_go else 600, {"done": 1}
        )
        if not self.holds(claim):
            assert orders is None
            del self.hands[worker]
            return
        assert orders is not None
        assert (orders.stop == "cancel") == self.model[claim.job.id].stop
        self.model[claim.job.id].lapsed = lets_go

    @rule(worker=WORKER, how=st.sampled_from(["finish", "fail", "cancelled", "drained", "lose"]))
    def end(self, worker: str, how: str) -> None:
        if (claim := self.hands.pop(worker, None)) is None:
            return
        job_id, fence = claim.job.id, claim.fence
        held = self.holds(claim)
        try:
            match how:
                case "finish":
                    self.store.finish(claim)
                case "fail":
                    self.store.fail(claim)
                case "cancelled":
                    attempts.cancel_attempt(self.db, job_id, fence)
                case "drained":
                    attempts.drain_attempt(self.db, job_id, fence)
                case "lose":
                    attempts.lose_attempt(self.db, job_id, fence, "it stood still", MAX_LOST)
        except FencedOut:
            assert not held
            return
        assert held
        match how:
            case "lose":
                self.model.lose(job_id)
            case "drained" if not self.model[job_id].stop:
                self.model[job_id].state = "queued"
            case _:
                ends = {
                    "finish": "succeeded",
                    "fail": "failed",
                    "cancelled": "cancelled",
                    "drained": "cancelled",
                }
                self.model.end(job_id, ends[how])

    def holds(self, claim: Claim) -> bool:
        job = self.model[claim.job.id]
        return job.state == "running" and job.fence == claim.fence

    @rule()
    def expire(self) -> None:
        lost = [i for i, j in self.model.items() if j.state == "running" and j.lapsed]
        assert sorted(self.store.expire_leases(MAX_LOST)) == sorted(lost)
        for job_id in lost:
            self.model.lose(job_id)

    @rule(n=ANY)
    def cancel(self, n: int) -> None:
        if (job_id := self.pick(n)) is None:
            return
        control.cancel_job(self.db, ALICE, job_id)
        self.model.cancel(job_id)

    @rule(n=ANY)
    def retry(self, n: int) -> None:
        if (job_id := self.pick(n)) is None:
            return
        job = self.model[job_id]
        ended = ("failed", "cancelled")
        may = (
            job.state in ended
            and not any(self.model[p].state in ended or self.model[p].stop for p in job.parents)
            and self.model.equal(job.tag) is None
        )
        try:
            control.retry_job(self.db, ALICE, job_id)
        except Conflict:
            assert not may
            return
        assert may
        job.state, job.lost, job.shared = self.model.ready(job), 0, True

    @rule(n=ANY, hold=st.booleans())
    def hold_or_unhold(self, n: int, hold: bool) -> None:
        if (job_id := self.pick(n)) is None:
            return
        before, after = ("queued", "paused") if hold else ("paused", "queued")
        may = self.model[job_id].state in (before, after)  # asking again is harmless
        try:
            (control.pause_job if hold else control.resume_job)(self.db, ALICE, job_id)
        except Conflict:
            assert not may
            return
        assert may
        self.model[job_id].state = after

    @invariant()
    def the_store_is_as_the_model_says(self) -> None:
        with self.db.read() as connection:
            found = {r.id: r for r in connection.execute(select(jobs))}
            counted = connection.execute(
                select(events.c.job, func.count(), func.max(events.c.seq)).group_by(events.c.job)
            )
            numbered = {job: (n, last) for job, n, last in counted}
        stored = {
            i: (r.state, r.fence, r.lost_count, r.stop == "cancel", r.dedup_key is not None)
            for i, r in found.items()
        }
        assert stored == {
            i: (j.state, j.fence, j.lost, j.stop, j.shared) for i, j in self.model.items()
        }
        for job_id, row in found.items():  # no gap in the events, no lease without an attempt
            assert numbered[job_id] == (row.event_seq, row.event_seq)
            assert (row.lease_until is not None) == (row.state == "running")


def run(store: JobStore, examples: int, steps: int) -> None:
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large]
    # shrinking on a server takes minutes; what fails there mostly fails in memory too
    phases = [Phase.reuse, Phase.generate] + (
        [Phase.shrink] if store.db.dialect == "sqlite" else []
    )
    run_state_machine_as_test(
        lambda: Machine(store),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=quiet,
            phases=phases,
        ),
    )


@pytest.fixture
def memory_store() -> Iterator[JobStore]:
    db = Database("sqlite://")
    with db.write() as connection:
        metadata.create_all(connection)
    yield JobStore(db)
    db.close()


def test_any_sequence_of_calls_on_sqlite(memory_store: JobStore) -> None:
    run(memory_store, 60, 50)


def test_any_sequence_of_calls_on_postgresql(postgres_store: JobStore) -> None:
    run(postgres_store, 15, 40)
