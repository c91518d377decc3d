"""Jobs and posts a second: `python -m benchmarks.engine.throughput [--jobs N] [--only STORE] [--without-others]`.

What is queued before the clock starts, by two workers: jobs without output, and jobs with a distinct artifact of
1 kB, synced. Posts of one job each by eight clients. Beside them, in the same run on the same disk: raw commits,
bare Celery and Procrastinate (one worker, the same database), which promise less.
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

from benchmarks.engine.conditions import DISK, conditions, print_table, syncs_per_s, write
from benchmarks.engine.others import celery_rate, procrastinate_rate
from shared.jobs import submit
from shared.jobs.database import Database
from shared.jobs.plan import plan_job
from shared.jobs.queue import CeleryBell, make_celery
from shared.jobs.states import State
from shared.jobs.tables import jobs
from tests.support.servers import fresh_database, postgres
from tests.support.system import TENANT, TOKEN, System, wait_for
from tests.support.tree import copy_tree

HEAD = '''
"""A stage that costs nothing."""
from pydantic import Field
from shared.plugins import Params
from workers.context import JobContext, Output
from workers.stages import registry


class Numbered(Params):
    number: int = Field(0, description="makes jobs differ")

'''
NOOP = """
@registry.register("noop", params=Numbered)
def run(ctx: JobContext) -> dict[str, Output]:
    '''Do nothing, make nothing.'''
    return {}
"""
KILOBYTE = """
@registry.register("kilobyte", params=Numbered, produces=("KILOBYTE",))
def run(ctx: JobContext) -> dict[str, Output]:
    '''Make a distinct artifact of 1 kB.'''
    return {"KILOBYTE": Output(f"{ctx.params.number:>1000}".encode())}
"""
STAGES = {"workers/stages/noop.py": HEAD + NOOP, "workers/stages/kilobyte.py": HEAD + KILOBYTE}
SERVED = "noop,kilobyte"
# the protocol's own times, not those of tests
TIMES = {"PALIMPSEST_LEASE": "45", "PALIMPSEST_RENEW_EVERY": "3", "PALIMPSEST_RECONCILE_EVERY": "5"}


def commits_per_s(db: Database, seconds: float = 2.0) -> float:
    """Durable commits a second of one row, one client."""
    done, until = 0, time.perf_counter() + seconds
    with db.write() as connection:
        connection.exec_driver_sql("CREATE TABLE bench (n INTEGER)")
    while time.perf_counter() < until:
        with db.write() as connection:
            connection.exec_driver_sql("INSERT INTO bench VALUES (1)")
        done += 1
    with db.write() as connection:
        connection.exec_driver_sql("DROP TABLE bench")
    return done / seconds


def drain_rate(system: System, stage: str, n: int) -> float:
    """Jobs a second from the first claim to the last end, by the job store's clock."""
    catalog = system.catalog()
    planned = [plan_job(catalog, stage, None, {"number": i}, 0, ()) for i in range(n)]
    submit.submit(system.db, TENANT, planned, audit=submit.AuditRequest("bench", {}))
    bell = CeleryBell(make_celery(system.redis.url))
    for _ in range(4):
        bell.ring(stage)
    done = (jobs.c.stage == stage) & (jobs.c.state == State.SUCCEEDED)

    def ended() -> bool:
        with system.db.read() as connection:
            found = connection.execute(select(func.count()).where(done)).scalar_one()
        return bool(found >= n) or bool(time.sleep(0.25))

    wait_for(ended, 600, "all jobs are done")
    with system.db.read() as connection:
        times = select(func.min(jobs.c.started_at), func.max(jobs.c.finished_at)).where(done)
        first, last = connection.execute(times).one()
    return float(n / (last - first))


def post_rate(url: str, n: int, clients: int = 8) -> float:
    """Answers a second to durable posts of one job each."""
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60) as api:

        def post(i: int) -> None:
            body = {"stage": "noop", "params": {"number": 1_000_000 + i}}
            api.post("/v1/jobs", json=body).raise_for_status()

        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(post, range(clients)))
            start = time.perf_counter()
            list(pool.map(post, range(clients, n)))
            return (n - clients) / (time.perf_counter() - start)


def measure(kind: str, database_url: str | None, folder: Path, n: int) -> dict[str, Any]:
    """One row: all figures for one kind of job store."""
    tree = copy_tree(folder / "tree", STAGES)
    system = System(folder / "system", tree, database_url, **TIMES)
    try:
        row: dict[str, Any] = {"store": kind, "commits_per_s": commits_per_s(system.db)}
        system.reconciler()
        for name in ("one", "two"):
            system.worker(SERVED, name=name, wait=600)
        row["noop_per_s"] = drain_rate(system, "noop", n)
        row["kilobyte_per_s"] = drain_rate(system, "kilobyte", n // 2)
        for name in ("one", "two"):
            system.kill(name, group=True)
        row["posts_per_s"] = post_rate(system.gateway(), n)
    finally:
        system.close()
    return {name: round(value, 1) if isinstance(value, float) else value for name, value in row.items()}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--only", choices=["sqlite", "postgresql"])
    parser.add_argument("--without-others", action="store_true", help="leave out bare Celery and Procrastinate")
    given = parser.parse_args()
    about, rows = conditions(), []
    with tempfile.TemporaryDirectory(dir=DISK) as name, postgres() as server:
        folder = Path(name)
        for kind in [given.only] if given.only else ["postgresql", "sqlite"]:
            url = fresh_database(server) if kind == "postgresql" else None
            rows.append(measure(kind, url, folder / kind, given.jobs) | {"syncs_per_s": round(syncs_per_s())})
            print(rows[-1], flush=True)
        others = []
        if not given.without_others:
            others.append({"beside": "bare Celery", "jobs_per_s": round(celery_rate(folder, given.jobs), 1)})
            rate = procrastinate_rate(fresh_database(server), given.jobs)
            others.append({"beside": "Procrastinate", "jobs_per_s": round(rate, 1)})
    print_table(rows)
    if others:
        print_table(others)
    write("throughput", about, [*rows, *others])


if __name__ == "__main__":
    main()
