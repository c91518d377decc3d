"""What the public API says at the end: every job and every event of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from tests.chaos.storm.stores import HOUR

LIVE = ("waiting", "queued", "paused", "running")
UNSUCCESSFUL = ("failed", "cancelled")


@dataclass(frozen=True)
class Step:
    """A job's move from one state to another; `at` by the storm's clock."""

    seq: int
    at: float
    before: str
    to: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Attempt:
    """From a claim to its end; `end` is the step that ended it, None while it runs."""

    worker: str
    began: float
    end: Step | None
    beats: tuple[float, ...]  # when it said that it goes on: progress, checkpoints

    @property
    def charged(self) -> bool:
        """Whether the job was charged for it."""
        return self.end is not None and bool(self.end.data.get("lost_count"))

    @property
    def lost(self) -> bool:
        """Whether it left `running`, and not by its own end or a drain."""
        if self.end is None or self.end.data.get("because") == "drained":
            return False
        failed = self.end.to == "failed" and self.end.data.get("failure") == "lost_worker"
        return self.end.to in ("queued", "cancelled") or failed


@dataclass(frozen=True)
class JobHistory:
    """One job: as the API shows it, and what happened to it."""

    view: dict[str, Any]
    events: list[dict[str, Any]]
    began: float  # when the piece began, which tells what its times mean
    steps: list[Step] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)

    def __post_init__(self) -> None:
        for e in self.events:
            if e["kind"] == "state":
                step = Step(
                    e["seq"], self.time_of(e), e["data"].get("from"), e["data"]["to"], e["data"]
                )
                self.steps.append(step)
        self.attempts.extend(self._attempts())

    @property
    def id(self) -> str:
        return str(self.view["id"])

    @property
    def tag(self) -> str | None:
        return self.view["params"].get("tag")

    def time_of(self, event: dict[str, Any]) -> float:
        """When it happened by the storm's clock: the database's may have been an hour off."""
        at = datetime.fromisoformat(event["at"]).timestamp()
        return min(
            (at - offset for offset in (0, HOUR, -HOUR)),
            key=lambda t: abs(t - self.began - HOUR / 4),
        )

    def _attempts(self) -> Iterator[Attempt]:
        for claim in (s for s in self.steps if s.to == "running"):
            end = next((s for s in self.steps if s.seq > claim.seq), None)
            beats = tuple(
                self.time_of(e)
                for e in self.events
                if e["kind"] in ("progress", "checkpoint")
                and e["seq"] > claim.seq
                and (not end or e["seq"] < end.seq)
            )
            yield Attempt(str(claim.data.get("worker", "")).partition("@")[0], claim.at, end, beats)

    def describe(self) -> str:
        """Its events, one per line, to investigate a finding."""
        lines = [
            f"{self.id} {self.view['state']} {self.view['failure'] or ''} lost {self.view['lost_count']}"
        ]
        for e in self.events:
            if e["kind"] != "progress":
                lines.append(
                    f"  {e['seq']:>3} {self.time_of(e):.2f} {e['kind']} {json.dumps(e['data'])}"
                )
        return "\n".join(lines)


@dataclass(frozen=True)
class History:
    """Everything that the oracle looks at."""

    began: float
    jobs: list[JobHistory]
    audits: list[dict[str, Any]]
    workers: list[dict[str, Any]]
    effects: list[dict[str, Any]]
    served: tuple[str, ...] = ()  # names of the workers that there must be


def collect(http: httpx.Client, effects: Path, began: float, served: tuple[str, ...]) -> History:
    """Read it all, through the API and from the log that the stage writes."""
    views = list(pages(http, "/v1/jobs"))
    with ThreadPoolExecutor(4) as pool:
        events = list(pool.map(lambda view: list(events_of(http, view["id"])), views))
    jobs = [JobHistory(view, found, began) for view, found in zip(views, events, strict=True)]
    lines = effects.read_text().splitlines() if effects.exists() else []
    audits, workers = list(pages(http, "/v1/audits")), get(http, "/v1/workers")["items"]
    return History(began, jobs, audits, workers, [json.loads(line) for line in lines], served)


def get(http: httpx.Client, path: str, patience: float = 60, **query: Any) -> dict[str, Any]:
    """One GET, again for a while when it is not answered."""
    until = time.monotonic() + patience
    while True:
        try:
            return dict(http.get(path, params=query).raise_for_status().json())
        except httpx.HTTPError:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)


def pages(http: httpx.Client, path: str) -> Iterator[dict[str, Any]]:
    """Every item of a list."""
    page: dict[str, str] = {}
    while True:
        body = get(http, path, limit=200, **page)
        yield from body["items"]
        if not body["next"]:
            return
        page = {"page": body["next"]}


def events_of(http: httpx.Client, job: str) -> Iterator[dict[str, Any]]:
    """Every event of a job."""
    after: int | None = 0
    while after is not None:
        body = get(http, f"/v1/jobs/{job}/events", after=after)
        yield from body["items"]
        after = body["next"]
