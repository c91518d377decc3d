"""What `secure_delete` costs on SQLite: `python -m benchmarks.engine.secure_delete [--rounds N]
[--jobs N]`.

Two job stores beside each other, one with the setting and one without, take turns: the same jobs
are submitted, claimed, renewed with progress and finished. Processor time and wall time of each
turn are those of the calls alone.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.engine.conditions import DISK_FOLDER, describe_conditions, print_table
from shared.jobs import attempts
from shared.jobs.database import Database
from shared.jobs.migrations import migrate
from tests.support.job_store import JobStore, make_planned_job


def run_jobs(store: JobStore, first: int, n: int) -> tuple[float, float]:
    """Milliseconds per job: of the processor, and on the clock."""
    cpu, start = time.process_time(), time.perf_counter()
    for number in range(first, first + n):
        store.post(make_planned_job(f"job {number}"))
        claim = store.claim_one()
        for step in range(3):
            attempts.renew_lease(store.db, claim.job.id, claim.fence, 60, {"done": step})
        store.finish(claim)
    return (time.process_time() - cpu) / n * 1e3, (time.perf_counter() - start) / n * 1e3


def open_store(folder: Path, setting: str) -> JobStore:
    """A new job store, on one connection with that setting."""
    db = Database(f"sqlite:///{folder}/{setting}.db")
    migrate(db)
    with db.connect_outside_transaction() as raw:
        raw.execute(f"PRAGMA secure_delete={setting}")
    return JobStore(db)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=100)
    options = parser.parse_args()
    print(describe_conditions())
    times: dict[str, list[tuple[float, float]]] = {"OFF": [], "ON": []}
    with tempfile.TemporaryDirectory(dir=DISK_FOLDER) as name:
        stores = {setting: open_store(Path(name), setting) for setting in times}
        for n in range(options.rounds):
            for setting in list(times)[:: 1 if n % 2 else -1]:
                times[setting].append(run_jobs(stores[setting], n * options.jobs, options.jobs))
        for store in stores.values():
            store.db.close()
    print_table(
        [
            {
                "secure_delete": setting,
                "cpu_ms_per_job": round(statistics.median(c for c, _ in values), 2),
                "ms_per_job": round(statistics.median(w for _, w in values), 2),
            }
            for setting, values in times.items()
        ]
    )
    ratios = [on[0] / off[0] for on, off in zip(times["ON"], times["OFF"], strict=True)]
    print(f"processor time, with / without: median {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
