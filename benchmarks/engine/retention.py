"""What the collector costs: `python -m benchmarks.engine.retention [--jobs N] [--url URL]`.

First the calls of jobs on two SQLite job stores that take turns, one with the indexes that the
collector walks along and one without. Then a job store in which N jobs have expired (SQLite, or at
URL): how long each round of the collector takes, and how long a claim with its end takes alone,
and while a collector without pauses runs in another process. The artifacts are not in its store, so
what it takes to unlink files is not counted.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

from sqlalchemy import func, literal_column, select

from benchmarks.engine.conditions import DISK_FOLDER, describe_conditions, print_table
from benchmarks.engine.secure_delete import run_jobs
from shared.artifacts import ArtifactStore
from shared.jobs.collector import Collector
from shared.jobs.database import NOW_SQL, Database
from shared.jobs.migrations import migrate
from shared.jobs.retention import DAY_S, Retention
from shared.jobs.tables import jobs
from tests.support.job_store import JobStore, make_planned_job
from tests.support.simulated_days import SimulatedDays

INDEXES = (
    "ix_jobs_ended", "ix_jobs_reused_from", "ix_artifacts_origin", "ix_artifacts_expires_at",
    "ix_audits_created_at_id", "ix_audits_deleting", "ix_idempotency_created_at",
)  # fmt: skip
KEPT = Retention(
    uploads_s=DAY_S, idempotency_s=DAY_S, checkpoints_s=DAY_S, events_s=DAY_S,
    reconstructions_s=DAY_S, jobs_s=DAY_S, audits_s=DAY_S, catalogs_s=DAY_S,
)  # fmt: skip
PROBES = 100  # claims that are timed
ROUNDS = 60  # of the collector


def measure_indexes(folder: Path, rounds: int, count: int) -> None:
    """Milliseconds of a job's calls with and without the indexes."""
    stores = {}
    for name in ("with", "without"):
        db = Database(f"sqlite:///{folder}/{name}.db")
        migrate(db)
        stores[name] = JobStore(db)
    with stores["without"].db.connect_outside_transaction() as raw:
        for index in INDEXES:
            raw.execute(f"DROP INDEX {index}")
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in stores}
    for n in range(rounds):
        for name in list(stores)[:: 1 if n % 2 else -1]:
            times[name].append(run_jobs(stores[name], n * count, count))
    rows = []
    for name, made in times.items():
        cpu_ms, ms = (statistics.median(column) for column in zip(*made, strict=True))
        rows.append({"indexes": name, "CPU ms a job": f"{cpu_ms:.2f}", "ms a job": f"{ms:.2f}"})
    print_table(rows)
    for store in stores.values():
        store.db.close()


def time_claims(store: JobStore) -> list[float]:
    """Milliseconds of a claim with the end of its job."""
    times = []
    for _ in range(PROBES):
        start = time.perf_counter()
        store.finish(store.claim_one())
        times.append((time.perf_counter() - start) * 1e3)
    return times


def collect(url: str, folder: str, interval_s: float, sending: Connection) -> None:
    """As a reconciler does, for some rounds; sends the seconds of each and what it removed."""
    db = Database(url)
    collector = Collector(db, ArtifactStore.from_url(f"file://{folder}/artifacts"), KEPT)
    rounds: list[tuple[float, int]] = []
    while len(rounds) < ROUNDS:
        start = time.perf_counter()
        removed = collector.collect()
        if not removed:
            break
        rounds.append((time.perf_counter() - start, sum(removed.values())))
        time.sleep(interval_s)
    sending.send(rounds)
    db.close()


def measure_rounds(url: str, folder: Path, count: int) -> None:
    """Expired jobs are collected, in another process, while jobs are claimed."""
    db = Database(url)
    migrate(db)
    store = JobStore(db)
    start = time.perf_counter()
    # the bytes are in memory, as writing so many files would take longer than all else
    SimulatedDays(db, ArtifactStore.from_url("memory://")).add_day(count)
    db.now = literal_column(NOW_SQL[db.dialect])
    print(f"{count:,} jobs stored in {time.perf_counter() - start:.0f} s")
    store.submit(*(make_planned_job(f"probe {n}") for n in range(3 * PROBES)))
    db.analyze(jobs)
    found = {"alone": time_claims(store)}
    receiving, sending = multiprocessing.Pipe(False)
    child = multiprocessing.get_context("spawn").Process(
        target=collect, args=(url, str(folder), 0.0, sending)
    )
    child.start()
    time.sleep(3)
    found["while the collector runs without a pause"] = time_claims(store)
    rounds = receiving.recv()
    child.join()
    found["after it"] = time_claims(store)
    print_table(
        [
            {
                "claims and ends": name,
                "median ms": f"{statistics.median(ms):.1f}",
                "90 %": f"{sorted(ms)[PROBES * 9 // 10]:.1f}",
                "longest": f"{max(ms):.0f}",
            }
            for name, ms in found.items()
        ]
    )
    seconds = [one for one, _ in rounds]
    print(
        f"{len(rounds)} rounds of {statistics.median(seconds):.2f} s (longest {max(seconds):.2f}), "
        f"{sum(seconds):.0f} s in all"
    )
    with db.read() as connection:
        left = connection.execute(select(func.count()).select_from(jobs)).scalar_one()
    print(f"{left:,} of {count:,} jobs are left after that")
    db.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200_000)
    parser.add_argument("--url", help="of an empty database; SQLite if left out")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    print(describe_conditions())
    with tempfile.TemporaryDirectory(dir=DISK_FOLDER) as name:
        measure_indexes(Path(name), options.rounds, 50)
        url = options.url or f"sqlite:///{name}/palimpsest.db"
        measure_rounds(url, Path(name), options.jobs)


if __name__ == "__main__":
    main()
