"""One piece of a storm, from the first process to the verdict."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.chaos.storm.history import LIVE, History, collect, get, pages
from tests.chaos.storm.journal import Journal
from tests.chaos.storm.load import Clients, act
from tests.chaos.storm.oracle import Finding, Oracle, describe_fault
from tests.chaos.storm.recovery import recoveries
from tests.chaos.storm.report import describe_commit, result
from tests.chaos.storm.settings import Piece
from tests.chaos.storm.system import Served
from tests.chaos.storm.weather import Weather


@dataclass
class Judged:
    """What a piece came to; the system still runs."""

    piece: Piece
    system: Served
    journal: Journal
    began: float
    commit: str

    def history(self) -> History:
        """What the API says now."""
        with self.system.http(60) as http:
            return collect(http, self.system.effects, self.began, tuple(self.system.workers))

    def judge(self, history: History) -> tuple[dict[str, Any], list[Finding]]:
        """The result line and all findings, each with its job's events."""
        lines, lease = self.lines(), self.piece.pace.lease
        findings = Oracle(history, lines, lease).findings()
        return result(
            self.piece, self.commit, history, lines, findings, recoveries(history, lines, lease)
        ), findings

    def slowest(self, history: History, count: int = 5) -> list[str]:
        """The longest recoveries, each with the job that took longest."""
        took = recoveries(history, self.lines(), self.piece.pace.lease)
        worst = sorted(took, key=lambda one: -one[1])[:count]
        return [
            f"recovery {s:.1f} s after {describe_fault(f)}\n{job.describe()}"
            for f, s, job in worst
            if job is not None
        ]

    def lines(self) -> list[dict[str, Any]]:
        """The journal."""
        return self.journal.lines("asked", "post", "action", "fault", "load")


@contextlib.contextmanager
def weathered(
    home: Path, piece: Piece, say: Callable[[str], None] = lambda _: None
) -> Iterator[Judged]:
    """Serve, strike, wait until all has ended; what it came to, with the system still there."""
    system, commit = Served(home, piece), describe_commit()  # it may be another one at the end
    journal = Journal(home / "journal.jsonl")
    ended = threading.Event()
    try:
        began = time.time()
        system.start()
        say(f"served at {system.url}: {', '.join(system.names)}")
        threading.Thread(target=_measure_load, args=(journal, ended), daemon=True).start()
        clients = Clients(system, piece, journal)
        clients.start()
        weather = Weather(system, piece, journal)
        weather.run()
        say(f"{weather.count} faults; waiting for what was posted")
        clients.wait()
        clients.end()
        settle(system, piece, journal)
        yield Judged(piece, system, journal, began, commit)
    finally:
        ended.set()
        system.close()
        journal.close()


def _measure_load(journal: Journal, ended: threading.Event) -> None:
    while True:
        journal.note("load", one_minute=os.getloadavg()[0])
        if ended.wait(10):
            return


def settle(system: Served, piece: Piece, journal: Journal) -> None:
    """Until everything has ended and every worker is there, or the time for it is over. What failed
    because its attempts were lost is tried again, as a user would; it has to succeed then."""
    until = time.monotonic() + piece.pace.settle_s
    with system.http(60) as http:
        while time.monotonic() < until:
            counts = [q["counts"] for q in get(http, "/v1/queues")["items"]]
            workers = get(http, "/v1/workers")["items"]
            there = {w["id"].partition("@")[0] for w in workers if w["live"] and not w["drain"]}
            over = not any(c.get(s, 0) for c in counts for s in LIVE)
            if over and not _try_again(http, journal) and there >= set(system.workers):
                return
            time.sleep(0.5)


def _try_again(http: httpx.Client, journal: Journal) -> int:
    """Retry jobs that were lost too often, those that wait for them after them; how many."""
    tried = 0
    for view in list(pages(http, "/v1/jobs")):
        if view["failure"] in ("lost_worker", "input_failed") and not _hopeless(http, view):
            tried += act(http, journal, view["id"], "retry")
    return tried


def _hopeless(http: httpx.Client, view: dict[str, Any]) -> bool:
    """Whether an input has ended badly, so that a retry would be refused."""
    parents = [i["job"] for i in view["inputs"].values() if "job" in i]
    return any(get(http, f"/v1/jobs/{p}")["state"] in ("failed", "cancelled") for p in parents)
