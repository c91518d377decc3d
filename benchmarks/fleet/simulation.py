"""Audits on workers, as a sequence of events. Deterministic: the same day and fleet give the same
results."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from benchmarks.fleet.autoscaler import HPA_INTERVAL_S, Autoscaler, ScalingRule
from benchmarks.fleet.load import DAY_S, Audit, PlannedJob
from services.pod_costs.__main__ import INTERVAL_S
from services.pod_costs.rounds import BUSY_COST, IDLE_COST
from shared.config import Settings

GROUPS = ("train", "unlearn", "attack", "evaluate")


@dataclass(frozen=True)
class Delays:
    """How long things take besides the jobs, in seconds.

    claim_s: median of a claim with 1,000 workers (benchmarks/results/engine-scale.json).
    start_s: from the start of a worker's process until it takes jobs; measured.
    schedule_s: from the decision to the start of the process, with the image on the node; assumed.
    resume_s: to load a checkpoint and what the job needs; assumed.
    """

    claim_s: float = 0.001
    start_s: float = 10.0
    schedule_s: float = 5.0
    resume_s: float = 5.0


@dataclass(frozen=True)
class Fleet:
    """Which workers there are.

    sizes: workers by group, of a fixed fleet.
    rules: by group, of an autoscaled one.
    has_costs: whether the pods of busy workers are marked.
    counts_running: whether running jobs count as demand, or queued ones only.
    """

    name: str
    sizes: Mapping[str, int] = field(default_factory=dict)
    rules: Mapping[str, ScalingRule] = field(default_factory=dict)
    has_costs: bool = True
    counts_running: bool = True


@dataclass
class Outcome:
    """What a day came to.

    waits_s: of each job, from queued to its first claim.
    turnarounds_s: of each audit, from its arrival to its report.
    worker_s: of all workers, from their decision to their end.
    busy_kills: workers that were removed while they ran a job.
    lost_s: what has to be computed again, and what resuming costs.
    """

    waits_s: list[float] = field(default_factory=list)
    turnarounds_s: list[float] = field(default_factory=list)
    worker_s: float = 0.0
    busy_s: float = 0.0
    busy_kills: int = 0
    lost_s: float = 0.0


@dataclass(eq=False)
class _Job:
    planned: PlannedJob
    audit: _RunningAudit
    index: int
    n_waiting: int  # parents that have not ended
    remaining_s: float
    queued_at_s: float = math.nan
    was_claimed: bool = False


@dataclass(eq=False)
class _RunningAudit:
    at_s: float
    jobs: list[_Job] = field(default_factory=list)


@dataclass(eq=False)
class _Worker:
    group: str
    created_at_s: float
    ready_at_s: float
    job: _Job | None = None
    claimed_at_s: float = 0.0
    cost: int = IDLE_COST
    is_leaving: bool = False


class Simulation:
    """One day on one fleet."""

    def __init__(
        self, audits: Sequence[Audit], fleet: Fleet, delays: Delays, seed: int = 0
    ) -> None:
        self._fleet, self._delays = fleet, delays
        self._settings = Settings()
        self._rng = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._now_s = 0.0
        self._queues: dict[str, deque[_Job]] = {group: deque() for group in GROUPS}
        self._workers: dict[str, list[_Worker]] = {group: [] for group in GROUPS}
        self._n_unfinished = sum(len(audit.jobs) for audit in audits)
        self.outcome = Outcome()
        for audit in audits:
            self._at(audit.at_s, partial(self._arrive, audit))
        for group, size in fleet.sizes.items():
            for _ in range(size):
                self._workers[group].append(_Worker(group, 0.0, 0.0))
        for group, rule in fleet.rules.items():
            scaler = Autoscaler(rule)
            self._repeat(rule.polling_s, partial(self._scale, group, scaler.poll))
            self._repeat(HPA_INTERVAL_S, partial(self._scale, group, scaler.sync))
        if fleet.rules and fleet.has_costs:
            self._repeat(INTERVAL_S, self._update_costs)

    def run(self) -> Outcome:
        """Until the day is over and every job has ended."""
        while self._events and (self._n_unfinished or self._events[0][0] <= DAY_S):
            self._now_s, _, action = heapq.heappop(self._events)
            action()
        end_s = max(DAY_S, self._now_s)
        for workers in self._workers.values():
            for worker in workers:
                self.outcome.worker_s += end_s - worker.created_at_s
        return self.outcome

    def _at(self, at_s: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (at_s, next(self._order), action))

    def _repeat(self, interval_s: float, action: Callable[[], None]) -> None:
        def repeat() -> None:
            action()
            self._at(self._now_s + interval_s, repeat)

        self._at(self._rng.uniform(0, interval_s), repeat)

    # Jobs

    def _arrive(self, audit: Audit) -> None:
        running = _RunningAudit(self._now_s)
        running.jobs = [
            _Job(planned, running, n, len(planned.parents), planned.duration_s)
            for n, planned in enumerate(audit.jobs)
        ]
        for job in running.jobs:
            if not job.n_waiting:
                self._enqueue(job)

    def _enqueue(self, job: _Job) -> None:
        job.queued_at_s = self._now_s
        self._queues[job.planned.group].append(job)
        self._dispatch(job.planned.group)

    def _dispatch(self, group: str) -> None:
        """Idle workers claim queued jobs, oldest first."""
        for worker in self._workers[group]:
            if not self._queues[group]:
                return
            if worker.job is None and not worker.is_leaving and worker.ready_at_s <= self._now_s:
                self._claim(worker, self._queues[group].popleft())

    def _claim(self, worker: _Worker, job: _Job) -> None:
        claimed_at_s = self._now_s + self._delays.claim_s
        if not job.was_claimed:
            self.outcome.waits_s.append(claimed_at_s - job.queued_at_s)
            job.was_claimed = True
        worker.job, worker.claimed_at_s = job, claimed_at_s
        self._at(claimed_at_s + job.remaining_s, lambda: self._finish(worker, job, claimed_at_s))

    def _finish(self, worker: _Worker, job: _Job, claimed_at_s: float) -> None:
        if worker.job is not job or worker.claimed_at_s != claimed_at_s:
            return  # it was removed before
        worker.job = None
        self.outcome.busy_s += self._now_s - claimed_at_s
        self._n_unfinished -= 1
        for other in job.audit.jobs:
            n_of_parents = other.planned.parents.count(job.index)
            if n_of_parents:
                other.n_waiting -= n_of_parents
                if not other.n_waiting:
                    self._enqueue(other)
        if job.index == len(job.audit.jobs) - 1:
            self.outcome.turnarounds_s.append(self._now_s - job.audit.at_s)
        self._dispatch(worker.group)

    # Workers

    def _scale(self, group: str, decide: Callable[[float, int, int], int]) -> None:
        staying = [w for w in self._workers[group] if not w.is_leaving]
        n_jobs = len(self._queues[group])
        if self._fleet.counts_running:
            n_jobs += sum(1 for w in self._workers[group] if w.job is not None)
        wanted = decide(self._now_s, n_jobs, len(staying))
        for _ in range(wanted - len(staying)):
            self._start(group)
        if wanted < len(staying):
            for worker in sorted(staying, key=self._rank)[: len(staying) - wanted]:
                self._remove(worker)

    def _start(self, group: str) -> None:
        ready_at_s = self._now_s + self._delays.schedule_s + self._delays.start_s
        self._workers[group].append(_Worker(group, self._now_s, ready_at_s))
        self._at(ready_at_s, lambda: self._dispatch(group))

    def _rank(self, worker: _Worker) -> tuple[bool, int, int, float]:
        """Those that a ReplicaSet deletes first come first: not ready, of a low cost, ready for a
        short time on a logarithmic scale; within these, by chance."""
        ready_s = max(1.0, self._now_s - worker.ready_at_s)
        is_ready = worker.ready_at_s <= self._now_s
        return is_ready, worker.cost, int(math.log2(ready_s)), self._rng.random()

    def _remove(self, worker: _Worker) -> None:
        """SIGTERM: a job writes its checkpoint, or is cut short, and returns to the queue."""
        worker.is_leaving = True
        leaves_s = self._settings.lease_renew_s
        if worker.job is not None:
            self.outcome.busy_kills += 1
            if not worker.job.planned.has_checkpoints:
                leaves_s += self._settings.stop_grace_s
        self._at(self._now_s + leaves_s, lambda: self._leave(worker))

    def _leave(self, worker: _Worker) -> None:
        self.outcome.worker_s += self._now_s - worker.created_at_s
        self._workers[worker.group].remove(worker)
        job, worker.job = worker.job, None
        if job is None:
            return  # there was none, or it ended meanwhile
        done_s = max(0.0, self._now_s - worker.claimed_at_s)
        self.outcome.busy_s += done_s
        if job.planned.has_checkpoints:
            job.remaining_s += self._delays.resume_s - done_s
            self.outcome.lost_s += self._delays.resume_s
        else:
            self.outcome.lost_s += done_s
        self._queues[job.planned.group].appendleft(job)  # it keeps its place
        self._dispatch(job.planned.group)

    def _update_costs(self) -> None:
        for workers in self._workers.values():
            for worker in workers:
                worker.cost = IDLE_COST if worker.job is None else BUSY_COST
