"""Watching jobs and audits until they end: the calls of each round, and updates from their answers.

It does no I/O. Unchanged jobs cost an empty 304.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import calls
from .calls import Call
from .pace import Pace, PaceEstimator
from .records import Audit, Job, Page

MAX_CLOCK_DRIFT_S = 5.0  # between two rounds: if the clocks differ by more, this machine was asleep
MAX_ROUND_GAP_S = 150.0  # a running program never pauses longer between two rounds


@dataclass(frozen=True)
class Update:
    """The state of a job or an audit.

    done, total: steps of a job, jobs of an audit; `total` is 0 while unknown.
    numbers: current measurements of a job; for an audit, how many jobs are in each state.
    steps_per_s, remaining_s: None while unknown.
    requested: false for a job that is shown because its audit is watched.
    is_final: no update of this id follows.
    """

    id: str
    kind: str  # job or audit
    label: str
    state: str
    done: float
    total: float
    numbers: Mapping[str, float] = field(default_factory=dict)
    steps_per_s: float | None = None
    remaining_s: float | None = None
    failure: str | None = None
    message: str | None = None
    requested: bool = True
    is_final: bool = False


class Watcher:
    """Turns answers into updates: make the calls of `start_round`, pass every answer to
    `read_answer`, and yield the updates that it returns.

    Args:
        clock: monotonic seconds.
        wall_clock: seconds that continue while this machine sleeps.
    """

    def __init__(
        self,
        ids: Iterable[str],
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.open_ids = dict.fromkeys(ids)
        self._clock = clock
        self._wall_clock = wall_clock
        self._last_round: tuple[float, float] | None = None
        self._etags: dict[str, str] = {}
        self._estimators: dict[str, PaceEstimator] = {}
        self._last: dict[str, Update] = {}
        self._running: dict[str, set[str]] = {}  # audit -> jobs last seen running
        self._vanished: set[str] = (
            set()
        )  # jobs that were running in the last round and no longer are

    def start_round(self) -> list[Call[Any]]:
        """The calls to make now."""
        if self._has_slept():
            for estimator in self._estimators.values():
                estimator.skip_gap()
        requested: list[Call[Any]] = []
        for item in self.open_ids:
            if item.startswith("aud_"):
                # its jobs before the audit: once it has ended, they have too
                requested += [
                    calls.list_jobs(audit=item, state="running", limit=200),
                    calls.get_audit(item),
                ]
            else:
                requested.append(calls.get_job(item).add_etag(self._etags.get(item)))
        return [*(calls.get_job(job) for job in sorted(self._vanished)), *requested]

    def read_answer(
        self, call: Call[Any], answer: Job | Audit | Page[Job] | None, etag: str | None = None
    ) -> list[Update]:
        """The updates from one answer, none if nothing changed; `answer` is None for 304."""
        if answer is None:
            return []
        if isinstance(answer, Page):
            return self._read_running(str(call.query["audit"]), answer)
        if isinstance(answer, Audit):
            if answer.is_terminal:
                self.open_ids.pop(answer.id, None)
            return self._drop_repeated(self._describe_audit(answer))
        requested = answer.id in self.open_ids
        self._vanished.discard(answer.id)
        if etag:
            self._etags[answer.id] = etag
        if answer.is_terminal:
            self.open_ids.pop(answer.id, None)
        return self._drop_repeated(self._describe_job(answer, requested))

    def _has_slept(self) -> bool:
        now, wall = self._clock(), self._wall_clock()
        last, self._last_round = self._last_round, (now, wall)
        if last is None:
            return False
        passed_s, wall_passed_s = now - last[0], wall - last[1]
        return passed_s > MAX_ROUND_GAP_S or abs(wall_passed_s - passed_s) > MAX_CLOCK_DRIFT_S

    def _read_running(self, audit: str, page: Page[Job]) -> list[Update]:
        running = {job.id for job in page.items}
        self._vanished |= self._running.get(audit, set()) - running - self.open_ids.keys()
        self._running[audit] = running
        shown = [job for job in reversed(page.items) if job.id not in self.open_ids]
        return [
            u
            for job in shown
            for u in self._drop_repeated(self._describe_job(job, requested=False))
        ]

    def _drop_repeated(self, update: Update) -> list[Update]:
        if self._last.get(update.id) == update:
            return []
        self._last[update.id] = update
        return [update]

    def _describe_job(self, job: Job, requested: bool) -> Update:
        numbers = {k: v for k, v in job.progress.items() if isinstance(v, int | float)}
        done, total = numbers.pop("done", 0), numbers.pop("total", 0)
        pace = self._estimate_pace(job.id, done, total) if job.state == "running" else Pace()
        return Update(
            id=job.id,
            kind="job",
            label=f"{job.stage} {job.method}" if job.method else job.stage,
            state="stopping" if job.stopping and not job.is_terminal else job.state,
            done=done,
            total=total,
            numbers=numbers,
            steps_per_s=pace.steps_per_s,
            remaining_s=pace.remaining_s,
            failure=job.failure,
            message=job.message,
            requested=requested,
            is_final=job.is_terminal,
        )

    def _describe_audit(self, audit: Audit) -> Update:
        pace = (
            Pace()
            if audit.is_terminal
            else self._estimate_pace(audit.id, audit.finished, audit.total)
        )
        return Update(
            id=audit.id,
            kind="audit",
            label=audit.name,
            state=audit.state,
            done=audit.finished,
            total=audit.total,
            numbers={state: float(count) for state, count in sorted(audit.counts.items())},
            steps_per_s=pace.steps_per_s,
            remaining_s=pace.remaining_s,
            is_final=audit.is_terminal,
        )

    def _estimate_pace(self, item: str, done: float, total: float) -> Pace:
        last = self._last.get(item)
        if (
            last is not None
            and item in self._estimators
            and (last.done, last.total) == (done, total)
        ):
            return Pace(
                last.steps_per_s, last.remaining_s
            )  # time that passes without progress is not an update
        return self._estimators.setdefault(item, PaceEstimator()).observe(
            self._clock(), done, total
        )
