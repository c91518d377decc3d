"""Workers without processes: each turn calls the functions that a real worker calls, at its pace.

A real worker has a pool child that claims and finishes, and a lease process that records a heartbeat
and renews the lease every few seconds. Here a few threads of a few processes do the same for hundreds
of workers, on as many connections as there are threads. What is simulated: processes, connections,
the stages' computing (a job is a pause), artifacts (rows without bytes), Redis. What is real: every
statement, its transaction, and the times at which a worker would send it.
"""

from __future__ import annotations

import heapq
import random
import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

from sqlalchemy import insert

from shared.errors import FencedOut, TransientError
from shared.jobs import attempts, completion, worker_registry
from shared.jobs.database import Database
from shared.jobs.dispatch import Dispatcher
from shared.jobs.records import Artifact, Claim, WorkerMemory
from shared.jobs.tables import workers as workers_table

LEASE_S = 45.0
PROCESSES = 2


@dataclass(frozen=True)
class Pace:
    """What a simulated fleet does.

    renew_s: seconds between two turns of a lease process.
    job_s: seconds that a job takes, give or take a half.
    seconds: how long all of it lasts.
    """

    renew_s: float = 3.0
    job_s: float = 60.0
    seconds: float = 60.0


@dataclass
class Samples:
    """What was measured: seconds by what was done; `late` is how long a turn began after it was due."""

    durations: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def time_call(self, name: str, call: Callable[[], Any]) -> Any:
        """Time a call; what it raises is counted, and None is returned."""
        start = time.perf_counter()
        try:
            return call()
        except (TransientError, FencedOut) as error:
            self.errors[f"{name}: {str(error)[:80]}"] += 1
            return None
        finally:
            self.durations[name].append(time.perf_counter() - start)

    def add(self, others: Samples) -> None:
        """Take in what others have measured."""
        for name, values in others.durations.items():
            self.durations[name] += values
        for name, n in others.errors.items():
            self.errors[name] += n

    def describe(self, seconds: float) -> list[dict[str, Any]]:
        """One row for each kind."""
        rows = []
        for name, values in sorted(self.durations.items()):
            values.sort()
            row: dict[str, Any] = {"what": name, "per_s": round(len(values) / seconds, 1)}
            for share in (0.5, 0.95, 0.99):
                row[f"p{round(share * 100)}_ms"] = round(pick_share(values, share) * 1000, 1)
            rows.append(row | {"max_ms": round(values[-1] * 1000, 1)})
        return rows


def pick_share(values: Sequence[float], share: float) -> float:
    """The value below which this share of sorted values lies."""
    return values[int(share * (len(values) - 1))]


@dataclass
class _Worker:
    name: str
    dispatcher: Dispatcher
    claim: Claim | None = None
    step: int = 0


def register_workers(db: Database, names: Sequence[str], stages: Sequence[str]) -> None:
    """Rows of live workers, as `register_worker` makes them."""
    with db.write() as connection:
        rows = [
            {
                "id": name,
                "host": f"host-{n // 8}",
                "pid": n,
                "stages": "[" + ",".join(f'"{stage}"' for stage in stages) + "]",
                "device": "cuda:0 NVIDIA H100",
                "threads": 8,
                "versions": '{"torch": "2.7.1"}',
                "catalog": "none",
                "drain": False,
            }
            for n, name in enumerate(names)
        ]
        connection.execute(insert(workers_table).values(started_at=db.now, seen_at=db.now), rows)


def finish(db: Database, claim: Claim) -> set[str]:
    """End a job as a worker does, with one artifact of its own."""
    artifact = Artifact("OUT", secrets.token_hex(32), 1000, "application/octet-stream")
    return completion.finish_job(
        db,
        claim.job.id,
        claim.fence,
        [artifact],
        cache_key=secrets.token_hex(32),
        code="code",
        put_missing=lambda: None,
    )


def run_fleet(
    url: str,
    names: Sequence[str],
    stages: Sequence[str],
    plugins: Sequence[str],
    pace: Pace,
    threads: int,
) -> Samples:
    """Let these registered workers work, in two processes."""
    shares = [list(names[n::PROCESSES]) for n in range(PROCESSES)]
    total = Samples()
    with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:
        arguments = (stages, plugins, pace, max(1, threads // PROCESSES))
        for future in [pool.submit(_run_share, url, share, *arguments) for share in shares]:
            total.add(future.result())
    return total


def _run_share(
    url: str,
    names: list[str],
    stages: Sequence[str],
    plugins: Sequence[str],
    pace: Pace,
    threads: int,
) -> Samples:
    def work(n: int, samples: Samples) -> None:
        db = Database(url)
        _run_thread(db, names[n::threads], stages, plugins, pace, samples)
        db.close()

    return _run_threads(work, threads)


def _run_threads(work: Callable[[int, Samples], None], threads: int) -> Samples:
    """What all of them have measured."""
    total, results = Samples(), [Samples() for _ in range(threads)]
    running = [threading.Thread(target=work, args=(n, results[n])) for n in range(threads)]
    for thread in running:
        thread.start()
    for thread, samples in zip(running, results, strict=True):
        thread.join()
        total.add(samples)
    total.durations = dict(total.durations)  # what is sent to another process has no functions
    total.errors = dict(total.errors)
    return total


def _run_thread(
    db: Database,
    names: list[str],
    stages: Sequence[str],
    plugins: Sequence[str],
    pace: Pace,
    samples: Samples,
) -> None:
    """The turns of these workers, each when it is due or as soon as possible after that."""
    if not names:
        return
    start = time.monotonic()
    end = start + pace.seconds
    due: list[tuple[float, int, str]] = []
    fleet = [_Worker(name, Dispatcher(db, name, stages, plugins)) for name in names]
    for n in range(len(fleet)):
        # as workers that were started one after the other
        heapq.heappush(due, (start + random.uniform(0, pace.renew_s), n, "turn"))
        heapq.heappush(due, (start + random.uniform(0, min(pace.job_s, pace.renew_s)), n, "next"))
    while (now := time.monotonic()) < end and due[0][0] < end:
        at, n, what = heapq.heappop(due)
        time.sleep(max(0.0, at - now))
        samples.durations["late"].append(max(0.0, now - at))
        if what == "turn":
            _take_turn(db, fleet[n], samples)
            following = at + pace.renew_s
        else:
            _take_next_job(db, fleet[n], samples)
            following = time.monotonic() + pace.job_s * random.uniform(0.5, 1.5)
        heapq.heappush(due, (following, n, what))
    samples.errors["overdue at the end"] += sum(at < end for at, _, _ in due)


def _take_turn(db: Database, worker: _Worker, samples: Samples) -> None:
    claim = worker.claim
    if claim is None:
        samples.time_call("heartbeat", lambda: record_heartbeat(db, worker.name))
        return
    worker.step += 1
    samples.time_call("renew", lambda: renew(db, claim, worker.step))


def renew(db: Database, claim: Claim, step: int) -> None:
    """As a lease process does while a job reports progress."""
    progress = {"done": step, "total": 1000, "matching_loss": 0.1}
    memory = WorkerMemory(2_000_000_000 + secrets.randbelow(10**6), 0)
    job = claim.job.id
    if attempts.renew_lease(db, job, claim.fence, LEASE_S, progress, memory) is None:
        raise FencedOut(f"job {job} is somebody else's")


def record_heartbeat(db: Database, name: str) -> bool | None:
    """As a lease process does."""
    return worker_registry.record_heartbeat(
        db, name, memory_bytes=2_000_000_000 + secrets.randbelow(10**6), device_memory_bytes=0
    )


def _take_next_job(db: Database, worker: _Worker, samples: Samples) -> None:
    claim = worker.claim
    if claim is not None:
        samples.time_call("finish", lambda: finish(db, claim))
    worker.claim = samples.time_call(
        "claim", lambda: worker.dispatcher.claim(LEASE_S, secrets.token_hex(8))
    )
    if worker.claim is None:
        samples.errors["claims without a job"] += 1


def claim_at_once(
    url: str, stages: Sequence[str], plugins: Sequence[str], claimers: int, rounds: int
) -> Samples:
    """Workers that all claim at the same moment, each on a connection of its own."""
    total = Samples()
    with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:
        share = max(1, claimers // PROCESSES)
        begin_at = time.time() + 5 + share / 20
        futures = [
            pool.submit(_claim_in_rounds, url, stages, plugins, f"s{n}", share, rounds, begin_at)
            for n in range(PROCESSES)
        ]
        for future in futures:
            total.add(future.result())
    return total


def _claim_in_rounds(
    url: str,
    stages: Sequence[str],
    plugins: Sequence[str],
    prefix: str,
    claimers: int,
    rounds: int,
    begin_at: float,
) -> Samples:
    barrier = threading.Barrier(claimers)

    def claim(n: int, samples: Samples) -> None:
        db = Database(url)  # a connection each, as workers have
        dispatcher = Dispatcher(db, f"{prefix}-{n}", stages, plugins)
        with db.read():
            barrier.wait()
        time.sleep(max(0.0, begin_at - time.time()))
        for _ in range(rounds):
            barrier.wait()
            made = samples.time_call("claim", lambda: dispatcher.claim(600, secrets.token_hex(8)))
            if made is None:
                samples.errors["claims without a job"] += 1
        db.close()

    return _run_threads(claim, claimers)
