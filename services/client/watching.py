"""Following jobs and audits to their ends: which calls to make each round, and what their answers mean.

It does no I/O, so the sync and the async client share it. Unchanged jobs cost an empty 304.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from services.client import calls
from services.client.calls import Call
from services.client.records import Audit, Job, Page

WINDOW = 30.0  # seconds over which a rate is taken


@dataclass(frozen=True)
class Update:
    """How a job or an audit stands. `rate` is in steps a second; `left` in seconds, None while unknown."""

    id: str
    kind: str  # job or audit
    label: str
    state: str
    done: float
    total: float
    numbers: Mapping[str, float] = field(default_factory=dict)
    rate: float | None = None
    left: float | None = None
    failure: str | None = None
    message: str | None = None
    asked: bool = True  # false for a job that is shown because its audit is watched
    ended: bool = False


class Rate:
    """Steps a second over the last half minute, as seen from here (clocks of two machines differ)."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float]] = deque()

    def add(self, now: float, done: float) -> float | None:
        """The rate with this observation; None while there is only one."""
        if self._seen and done < self._seen[-1][1]:
            self._seen.clear()  # a new attempt
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[1][0] >= WINDOW:
            self._seen.popleft()
        (then, before) = self._seen[0]
        return (done - before) / (now - then) if now > then and done > before else None


class Follower:
    """Ask `calls()` each round, `take()` every answer (None for 304), hand out what it returns."""

    def __init__(self, ids: Iterable[str], clock: Callable[[], float] = time.monotonic) -> None:
        self.open = dict.fromkeys(ids)
        self._clock = clock
        self._etags: dict[str, str] = {}
        self._rates: dict[str, Rate] = {}
        self._last: dict[str, Update] = {}
        self._running: dict[str, set[str]] = {}  # audit -> jobs last seen running
        self._vanished: set[str] = set()  # ran at the last look: how did they end?

    def calls(self) -> list[Call[Any]]:
        """What to ask now."""
        round_: list[Call[Any]] = []
        for item in self.open:
            if item.startswith("aud_"):
                # its jobs before itself: when it has ended, so have they
                round_ += [calls.jobs(audit=item, state="running", limit=200), calls.audit(item)]
            else:
                round_.append(calls.job(item).unless(self._etags.get(item)))
        return [*(calls.job(j) for j in sorted(self._vanished)), *round_]

    def take(self, call: Call[Any], answer: Job | Audit | Page[Job] | None, etag: str | None = None) -> list[Update]:
        """Updates that an answer brings; none if nothing changed."""
        if answer is None:
            return []
        if isinstance(answer, Page):
            return self._take_running(str(call.query["audit"]), answer)
        if isinstance(answer, Audit):
            if answer.ended:
                self.open.pop(answer.id, None)
            return self._say(self._audit(answer))
        asked = answer.id in self.open
        self._vanished.discard(answer.id)
        if etag:
            self._etags[answer.id] = etag
        if answer.ended:
            self.open.pop(answer.id, None)
        return self._say(self._job(answer, asked))

    def _take_running(self, audit: str, page: Page[Job]) -> list[Update]:
        now = {j.id for j in page.items}
        self._vanished |= self._running.get(audit, set()) - now - self.open.keys()
        self._running[audit] = now
        return [u for j in reversed(page.items) if j.id not in self.open for u in self._say(self._job(j, asked=False))]

    def _say(self, update: Update) -> list[Update]:
        if self._last.get(update.id) == update:
            return []
        self._last[update.id] = update
        return [update]

    def _job(self, job: Job, asked: bool) -> Update:
        numbers = {k: v for k, v in job.progress.items() if isinstance(v, int | float)}
        done, total = numbers.pop("done", 0), numbers.pop("total", 0)
        label = f"{job.stage} {job.method}" if job.method else job.stage
        state = "stopping" if job.stopping and not job.ended else job.state
        rate, left = self._pace(job.id, done, total) if job.state == "running" else (None, None)
        return Update(
            job.id, "job", label, state, done, total, numbers, rate, left,
            failure=job.failure, message=job.message, asked=asked, ended=job.ended,
        )  # fmt: skip

    def _audit(self, audit: Audit) -> Update:
        rate, left = (None, None) if audit.ended else self._pace(audit.id, audit.finished, audit.total)
        numbers = {state: float(n) for state, n in sorted(audit.counts.items())}
        return Update(
            audit.id, "audit", audit.name, audit.state, audit.finished, audit.total, numbers, rate, left,
            ended=audit.ended,
        )  # fmt: skip

    def _pace(self, item: str, done: float, total: float) -> tuple[float | None, float | None]:
        last = self._last.get(item)
        if last is not None and last.done == done and last.total == total:
            return last.rate, last.left  # nothing new: time that passes alone is no update
        rate = self._rates.setdefault(item, Rate()).add(self._clock(), done)
        return rate, (total - done) / rate if rate and total > done else None
