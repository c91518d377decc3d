"""What an index on the jobs costs each of their steps: `python -m benchmarks.engine.index_cost [--rounds N]
[--jobs N] [--index NAME "COLUMN, ..."]`.

Two job stores beside each other on SQLite, and two on PostgreSQL, each with 20,000 other jobs, one of
each with the index, take turns: the same jobs are submitted, claimed, renewed three times and
finished. Processor time is that of the calls and of the database.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.engine.conditions import (
    DISK_FOLDER,
    describe_conditions,
    print_table,
    write_results,
)
from benchmarks.engine.console import fill_store
from benchmarks.engine.secure_delete import run_jobs
from benchmarks.engine.server_usage import ServerUsage
from shared.jobs.database import Database
from shared.jobs.migrations import migrate
from tests.support.job_store import JobStore
from tests.support.servers import create_database, serve_postgres

TENANT_COUNTS = ("ix_jobs_tenant_stage_state_queued_at", "tenant, stage, state, queued_at")
OTHER_JOBS = 20_000


def open_store(url: str, name: str, columns: str, *, with_index: bool) -> JobStore:
    """A job store with other jobs in it."""
    db = Database(url)
    migrate(db)
    with db.write() as connection:
        connection.exec_driver_sql(f"DROP INDEX IF EXISTS {name}")
        if with_index:
            connection.exec_driver_sql(f"CREATE INDEX {name} ON jobs ({columns})")
    fill_store(db, OTHER_JOBS, 10)
    return JobStore(db)


def measure_kind(kind: str, urls: dict[str, str], options: argparse.Namespace) -> dict[str, Any]:
    """A row of the table: medians of the rounds, and of the ratio within each."""
    name, columns = options.index
    stores = {
        which: open_store(url, name, columns, with_index=which == "with")
        for which, url in urls.items()
    }
    made: dict[str, list[dict[str, float]]] = {which: [] for which in stores}
    for n in range(options.rounds):
        for which in list(stores)[:: 1 if n % 2 else -1]:
            store, used = stores[which], {"cpu_s": 0.0, "log_bytes": 0.0}
            with _measure_server(store.db, used):
                cpu_ms, ms = run_jobs(store, n * options.jobs, options.jobs)
            server_ms = used["cpu_s"] / options.jobs * 1000
            made[which].append(
                {
                    "cpu": cpu_ms,
                    "server": server_ms,
                    "both": cpu_ms + server_ms,
                    "log": used["log_bytes"] / options.jobs,
                    "clock": ms,
                }
            )
        print(kind, n, {which: made[which][-1] for which in made}, flush=True)
    for store in stores.values():
        store.db.close()

    def find_median(which: str, what: str) -> float:
        return statistics.median(one[what] for one in made[which])

    row: dict[str, Any] = {"store": kind}
    for which in ("without", "with"):
        row[f"CPU ms per job, {which}"] = round(find_median(which, "both"), 2)
    pairs = list(zip(made["with"], made["without"], strict=True))
    row["ratio of CPU, median"] = round(
        statistics.median(a["both"] / b["both"] for a, b in pairs), 3
    )
    for which in ("without", "with"):
        row[f"server CPU ms, {which}"] = round(find_median(which, "server"), 2)
    for which in ("without", "with"):
        row[f"log bytes per job, {which}"] = round(find_median(which, "log"))
    for which in ("without", "with"):
        row[f"ms per job, {which}"] = round(find_median(which, "clock"), 1)
    return row


@contextmanager
def _measure_server(db: Database, used: dict[str, float]) -> Iterator[None]:
    if db.dialect == "sqlite":
        yield
        return
    with ServerUsage(db).measure() as found:
        yield
    used.update(found)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--only", choices=["SQLite", "PostgreSQL"])
    parser.add_argument("--index", nargs=2, metavar=("NAME", "COLUMNS"), default=TENANT_COUNTS)
    options = parser.parse_args()
    measured_under, rows = describe_conditions(), []
    with tempfile.TemporaryDirectory(dir=DISK_FOLDER) as folder, serve_postgres() as server:
        for kind in [options.only] if options.only else ["SQLite", "PostgreSQL"]:
            urls = {
                which: f"sqlite:///{Path(folder)}/{which}.db"
                if kind == "SQLite"
                else create_database(server)
                for which in ("with", "without")
            }
            rows.append(measure_kind(kind, urls, options))
    print_table(rows)
    write_results("index-cost", measured_under, rows)


if __name__ == "__main__":
    main()
