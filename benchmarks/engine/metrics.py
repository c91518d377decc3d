"""The cost of a scrape with a million jobs in the store: `python -m benchmarks.engine metrics`.

Rows are made by the server, as for `scale`. An uncached scrape reads everything; each is that of a
gateway that has just started.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from typing import Any

from pydantic import SecretStr
from sqlalchemy import text

from benchmarks.engine.conditions import describe_conditions, print_table, write_results
from benchmarks.engine.scale import STAGE, QueueCase, fill_store, time_calls_ms
from services.gateway.monitoring.monitor import Monitor
from shared.config import Settings
from shared.jobs.database import Database
from shared.jobs.metric_totals import add_to_totals
from shared.jobs.migrations import migrate
from tests.support.servers import create_database, serve_postgres


def end_queued_jobs(db: Database, left: int) -> None:
    """All but some queued jobs have succeeded."""
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("SET statement_timeout = 0")
        connection.execute(
            text(
                "UPDATE jobs SET state = 'succeeded', finished_at = queued_at "
                "WHERE state = 'queued' AND id > (SELECT id FROM jobs WHERE state = 'queued' "
                "ORDER BY id OFFSET :left LIMIT 1)"
            ),
            {"left": left},
        )
        connection.exec_driver_sql("VACUUM ANALYZE jobs")


def add_request_totals(db: Database) -> None:
    """As many counters as a busy system has: 12 stages with all buckets, 40 routes."""
    amounts: dict[tuple[str, tuple[str, ...]], float] = {
        (f"job_{what}_bucket", (f"stage-{stage}", f"{bound:g}")): 1.0
        for what in ("wait", "run")
        for stage in range(12)
        for bound in (1, 5, 15, 60, 300, 900, 3600, 14400, 86400)
    }
    amounts |= {
        ("http_requests", (f"/v1/route/{n}", "GET", status)): 1.0
        for n in range(40)
        for status in ("200", "401", "404")
    }
    with db.write() as connection:
        add_to_totals(db, connection, amounts)


def measure_case(url: str, case: QueueCase, left: int | None) -> dict[str, Any]:
    """One row of the table."""
    db = Database(url)
    migrate(db)
    fill_store(db, case)
    if left is not None:
        end_queued_jobs(db, left)
    add_request_totals(db)
    settings = Settings(token=SecretStr("bench"), metrics_interval_s=1e6)
    uncached_ms = time_calls_ms(lambda: Monitor(db, settings).render(""), 15)
    monitor = Monitor(db, settings)
    monitor.render("")
    cached_ms = time_calls_ms(lambda: monitor.render(""), 200)
    row = {
        "case": case.name if left is None else f"{case.queued - left:,} ended, {left:,} queued",
        "uncached_p50_ms": round(statistics.median(uncached_ms), 1),
        "uncached_max_ms": round(uncached_ms[-1], 1),
        "cached_p50_ms": round(statistics.median(cached_ms), 2),
        "cached_p99_ms": round(cached_ms[197], 2),
        "stage": STAGE,
    }
    db.close()
    return row


def list_cases(n: int) -> Iterator[tuple[QueueCase, int | None]]:
    yield QueueCase(n, 1000), None
    yield QueueCase(n, 1000, tenants=10_000), None
    yield QueueCase(n, 1000, tenants=100), 1000


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    options = parser.parse_args()
    with serve_postgres() as server:
        rows = []
        for case, left in list_cases(options.jobs):
            rows.append(measure_case(create_database(server), case, left))
            print(rows[-1], flush=True)
    print_table(rows)
    write_results("metrics", describe_conditions(), rows)


if __name__ == "__main__":
    main()
