"""Rates and latencies of the queue: `python -m benchmarks.engine [--jobs N] [--out FILE]`.

For SQLite and PostgreSQL in one run: the rate at which one client commits one small row (what the disk
allows), the latency from the POST to the first line of the stage with a warm worker, and no-op jobs from POST
to `succeeded`, all through a real gateway, Redis and worker.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from shared.jobs import fleet
from shared.jobs.database import Database
from tests.support.servers import fresh_database, postgres
from tests.support.system import TOKEN, System, wait_for
from tests.support.tree import copy_tree

NOOP = '''
"""A stage that does nothing but say when it began."""
import time
from pathlib import Path
from pydantic import Field
from shared.registry import Params
from workers.context import JobContext, Output
from workers.stages import registry


class NoopParams(Params):
    began: str = Field("", description="file that gets the time of the first line")
    number: int = Field(0, description="makes jobs differ")


@registry.register("noop", params=NoopParams, produces=("NOTHING",))
def run(ctx: JobContext) -> dict[str, Output]:
    """Do nothing."""
    if ctx.params.began:
        Path(ctx.params.began).write_text(repr(time.time()))
    return {"NOTHING": Output.of_json(None)}
'''


def commit_rate(db: Database, seconds: float = 2.0) -> float:
    """Durable commits a second of one small update, one client."""
    fleet.register(
        db, "bench", host="bench", pid=0, stages=(), device="", threads=1, versions={}, catalog=""
    )  # fmt: skip
    done, until = 0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        fleet.seen(db, "bench")
        done += 1
    fleet.gone(db, "bench")
    return done / seconds


def post(api: httpx.Client, **params: Any) -> str:
    """Post one no-op job; its id."""
    answer = api.post("/v1/jobs", json={"stage": "noop", "params": params})
    answer.raise_for_status()
    return str(answer.json()["id"])


def latencies(api: httpx.Client, folder: Path, n: int) -> list[float]:
    """Seconds from just before the POST to the stage's first line, one job at a time."""
    found = []
    for i in range(n):
        file = folder / f"began-{i}"
        start = time.time()
        post(api, began=str(file), number=i)
        wait_for(lambda file=file: file.exists() and file.read_text(), 30, "the stage began")
        found.append(float(file.read_text()) - start)
        time.sleep(0.05)  # the worker waits for a bell again
    return found


def throughput(system: System, api: httpx.Client, n: int) -> tuple[float, float]:
    """Posts a second from 8 clients, and jobs a second from the first POST to the last `succeeded`."""
    before = fleet.stage_counts(system.db).get("noop", {}).get("succeeded", 0)
    start = time.perf_counter()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: post(api, number=1_000_000 + i), range(n)))
    posted = time.perf_counter() - start
    wait_for(lambda: fleet.stage_counts(system.db)["noop"].get("succeeded", 0) >= before + n, 300, "all jobs are done")
    return n / posted, n / (time.perf_counter() - start)


def measure(kind: str, database_url: str | None, folder: Path, jobs: int) -> dict[str, Any]:
    """All figures for one kind of job store."""
    tree = copy_tree(folder / "tree", {"workers/stages/noop.py": NOOP})
    system = System(folder / "system", tree, database_url, PALIMPSEST_RENEW_EVERY="3", PALIMPSEST_LEASE="45")
    try:
        commits = commit_rate(system.db)
        system.reconciler()
        system.worker("noop")
        headers = {"Authorization": f"Bearer {TOKEN}"}
        with httpx.Client(base_url=system.gateway(), headers=headers, timeout=60) as api:
            latencies(api, folder / "system", 5)
            waits = sorted(latencies(api, folder, jobs))
            posts, rate = throughput(system, api, jobs)
    finally:
        system.close()
    return {
        "store": kind,
        "commits_per_s": round(commits, 1),
        "first_line_p50_ms": round(statistics.median(waits) * 1000, 1),
        "first_line_p99_ms": round(waits[min(len(waits) - 1, int(0.99 * len(waits)))] * 1000, 1),
        "posts_per_s": round(posts, 1),
        "noop_jobs_per_s": round(rate, 1),
        "n": jobs,
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/engine.json"))
    given = parser.parse_args()
    # in /var/tmp, which is on a disk where /tmp may be memory
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name, postgres() as server:
        rows = [measure("sqlite", None, Path(name) / "sqlite", given.jobs)]
        rows.append(measure("postgresql", fresh_database(server), Path(name) / "postgresql", given.jobs))
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(str(v) for v in row.values()) + " |")
    about = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps({"conditions": about, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
