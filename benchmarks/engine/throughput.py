"""Jobs and posts per second: `python -m benchmarks.engine.throughput [--jobs N] [--only STORE]
[--without-others]`.

Jobs are queued before the clock starts and run by two workers: jobs without output, and jobs with a
distinct artifact of 1 kB, synced. Posts are of one job each, by eight clients. For comparison, in
the same run on the same disk: raw commits, bare Celery and Procrastinate (one worker, the same
database), which give weaker guarantees.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import func, select

from benchmarks.engine.conditions import (
    DISK_FOLDER,
    describe_conditions,
    measure_syncs_per_s,
    print_table,
    write_results,
)
from benchmarks.engine.other_queues import measure_celery, measure_procrastinate
from shared.jobs import submit
from shared.jobs.database import Database
from shared.jobs.plan import plan_job
from shared.jobs.queue import CeleryWakeup, make_celery
from shared.jobs.states import State
from shared.jobs.tables import jobs
from tests.support.servers import create_database, serve_postgres
from tests.support.source_tree import copy_tree
from tests.support.system import TENANT, TOKEN, System
from tests.support.waiting import TIMEOUT_S, wait_for

STAGE_HEADER = '''
"""A stage that does nothing."""
from pydantic import Field
from shared.plugins import Params
from workers.context import JobContext, StageOutput
from workers.stages import registry


class Numbered(Params):
    number: int = Field(0, description="makes jobs differ")

'''
NOOP_STAGE = """
@registry.register("noop", params=Numbered)
def run(ctx: JobContext) -> dict[str, StageOutput]:
    '''Do nothing, make nothing.'''
    return {}
"""
KILOBYTE_STAGE = """
@registry.register("kilobyte", params=Numbered, produces=("KILOBYTE",))
def run(ctx: JobContext) -> dict[str, StageOutput]:
    '''Make a distinct artifact of 1 kB.'''
    return {"KILOBYTE": StageOutput(f"{ctx.params.number:>1000}".encode())}
"""
STAGE_FILES = {
    "workers/stages/noop.py": STAGE_HEADER + NOOP_STAGE,
    "workers/stages/kilobyte.py": STAGE_HEADER + KILOBYTE_STAGE,
}
SERVED_STAGES = "noop,kilobyte"
# the protocol's default times, not those of tests
PROTOCOL_SETTINGS = {
    "PALIMPSEST_LEASE_S": "45",
    "PALIMPSEST_LEASE_RENEW_S": "3",
    "PALIMPSEST_RECONCILE_INTERVAL_S": "5",
}


def measure_commits_per_s(db: Database, seconds: float = 2.0) -> float:
    """Durable commits per second of one row, one client."""
    count, deadline = 0, time.perf_counter() + seconds
    with db.write() as connection:
        connection.exec_driver_sql("CREATE TABLE bench (n INTEGER)")
    while time.perf_counter() < deadline:
        with db.write() as connection:
            connection.exec_driver_sql("INSERT INTO bench VALUES (1)")
        count += 1
    with db.write() as connection:
        connection.exec_driver_sql("DROP TABLE bench")
    return count / seconds


def measure_drain_per_s(system: System, stage: str, n: int) -> float:
    """Jobs per second from the first claim to the last end, by the job store's clock."""
    catalog = system.load_catalog()
    planned = [plan_job(catalog, stage, None, {"number": i}, 0, ()) for i in range(n)]
    submit.submit_jobs(system.db, TENANT, planned, audit=submit.AuditRequest("bench", {}))
    wakeup_queue = CeleryWakeup(make_celery(system.redis.url))
    for _ in range(4):
        wakeup_queue.notify(stage)
    succeeded = (jobs.c.stage == stage) & (jobs.c.state == State.SUCCEEDED)

    def all_succeeded() -> bool:
        with system.db.read() as connection:
            count = connection.execute(select(func.count()).where(succeeded)).scalar_one()
        return bool(count >= n)

    wait_for(all_succeeded, TIMEOUT_S, "all jobs are done", interval_s=0.25)
    with system.db.read() as connection:
        times = select(func.min(jobs.c.started_at), func.max(jobs.c.finished_at)).where(succeeded)
        first, last = connection.execute(times).one()
    return float(n / (last - first))


def measure_posts_per_s(url: str, n: int, clients: int = 8) -> float:
    """Responses per second to durable posts of one job each."""
    with httpx.Client(
        base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60
    ) as api:

        def post(i: int) -> None:
            body = {"stage": "noop", "params": {"number": 1_000_000 + i}}
            api.post("/v1/jobs", json=body).raise_for_status()

        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(post, range(clients)))
            start = time.perf_counter()
            list(pool.map(post, range(clients, n)))
            return (n - clients) / (time.perf_counter() - start)


def measure_store(kind: str, database_url: str | None, folder: Path, n: int) -> dict[str, Any]:
    """One row: all figures for one kind of job store."""
    tree = copy_tree(folder / "tree", STAGE_FILES)
    system = System(folder / "system", tree, database_url, **PROTOCOL_SETTINGS)
    try:
        row: dict[str, Any] = {"store": kind, "commits_per_s": measure_commits_per_s(system.db)}
        system.start_reconciler()
        for name in ("one", "two"):
            system.start_worker(SERVED_STAGES, name=name, timeout_s=600)
        row["noop_per_s"] = measure_drain_per_s(system, "noop", n)
        row["kilobyte_per_s"] = measure_drain_per_s(system, "kilobyte", n // 2)
        for name in ("one", "two"):
            system.kill(name, group=True)
        row["posts_per_s"] = measure_posts_per_s(system.start_gateway(), n)
    finally:
        system.close()
    return {
        name: round(value, 1) if isinstance(value, float) else value for name, value in row.items()
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--only", choices=["sqlite", "postgresql"])
    parser.add_argument(
        "--without-others", action="store_true", help="leave out bare Celery and Procrastinate"
    )
    options = parser.parse_args()
    measured_under, rows = describe_conditions(), []
    with tempfile.TemporaryDirectory(dir=DISK_FOLDER) as name, serve_postgres() as server:
        folder = Path(name)
        for kind in [options.only] if options.only else ["postgresql", "sqlite"]:
            url = create_database(server) if kind == "postgresql" else None
            rows.append(
                measure_store(kind, url, folder / kind, options.jobs)
                | {"syncs_per_s": round(measure_syncs_per_s())}
            )
            print(rows[-1], flush=True)
        others = []
        if not options.without_others:
            others.append(
                {
                    "beside": "bare Celery",
                    "jobs_per_s": round(measure_celery(folder, options.jobs), 1),
                }
            )
            rate = measure_procrastinate(create_database(server), options.jobs)
            others.append({"beside": "Procrastinate", "jobs_per_s": round(rate, 1)})
    print_table(rows)
    if others:
        print_table(others)
    write_results("throughput", measured_under, [*rows, *others])


if __name__ == "__main__":
    main()
