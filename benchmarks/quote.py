"""How long quoting an audit of about 500 jobs takes with a million past jobs in SQLite.

    python -m benchmarks.quote [--jobs N]

The catalog of this code; a database in a temporary folder. Prints seconds, and the load average.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import text

from benchmarks.planning import GRID
from shared.jobs import worker_registry
from shared.jobs.cost_history import Basis, describe_machine
from shared.jobs.cost_keys import compute_cost_keys
from shared.jobs.database import Database
from shared.jobs.migrations import migrate
from shared.jobs.plan import plan
from shared.jobs.quote import quote_jobs
from shared.jobs.records import PlannedJob
from shared.jobs.spec import AuditSpec
from workers.catalog import load_catalog

TENANT, REPEATS, THREADS = "local", 9, 2
_FILL = """
INSERT INTO jobs (id, tenant, stage, method, params, seed, produces, state, priority, request_key,
    code, no_cache, pinned, fence, attempt, lost_count, progress, created_at, finished_at, version,
    event_seq, equal_cost_key, similar_cost_key, ran_on, run_s, cpu_s, memory_bytes)
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :count)
SELECT printf('job_%020d_{k}', i), :tenant, :stage, :method, '{{}}', i, '[]', 'succeeded', 0,
    printf('%064d', i), '', 0, 0, 1, 1, 0, '{{}}', i, i, 1, 1, :equal, :similar, :machine,
    1.0 + i % 7, 1.0, 500000000 FROM n
"""


def fill(db: Database, planned: Sequence[PlannedJob], count: int) -> None:
    """Past jobs of every fourth kind of the plan: the others are looked for in vain twice."""
    keys = compute_cost_keys(planned, {})
    kinds = {keys[job.request_key]: job for job in planned}
    chosen = list(kinds.items())[::4]
    machine = describe_machine("cpu", THREADS)
    for k, (key, job) in enumerate(chosen):
        values = {"count": count // len(chosen), "tenant": TENANT, "stage": job.stage,
                  "method": job.method, "equal": key.equal, "similar": key.similar,
                  "machine": machine}  # fmt: skip
        with db.write() as connection:
            connection.execute(text(_FILL.format(k=k)), values)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=1_000_000, help="past jobs")
    count = parser.parse_args().jobs
    catalog = load_catalog()
    grid = {**GRID, "defenses": GRID["defenses"][:3], "seeds": [0, 1]}
    planned = plan(AuditSpec.model_validate(grid), catalog)
    with tempfile.TemporaryDirectory() as folder:
        db = Database(f"sqlite:///{Path(folder)}/palimpsest.db")
        migrate(db)
        worker_registry.register_worker(
            db, "w", host="here", pid=1, stages=tuple(catalog.list_names("stage")), device="cpu",
            threads=THREADS, versions={}, catalog="",
        )  # fmt: skip
        fill(db, planned, count)
        seconds, cpu_seconds = [], []
        for _ in range(REPEATS):
            started, cpu_started = time.perf_counter(), time.process_time()
            quote = quote_jobs(db, TENANT, planned, {}, workers=4)
            seconds.append(time.perf_counter() - started)
            cpu_seconds.append(time.process_time() - cpu_started)
    bases = {basis: sum(row.basis is basis for row in quote.stages) for basis in Basis}
    print(json.dumps({
        "planned_jobs": len(planned), "past_jobs": count, "unknown": quote.unknown, "rows": bases,
        "median_s": round(statistics.median(seconds), 3), "max_s": round(max(seconds), 3),
        "cpu_s": round(statistics.median(cpu_seconds), 3),
        "load": os.getloadavg()[0],
    }))  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
