"""The cost of a claim in long queues: `python -m benchmarks.engine.scale [--queued 1000 100000
1000000]`.

Rows are made by the server. Every case is measured on its own PostgreSQL database, in one run;
claims are real ones, so each takes its job from the queue.
"""

from __future__ import annotations

import argparse
import itertools
import secrets
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr
from sqlalchemy import text

from benchmarks.engine.conditions import describe_conditions, print_table, write_results
from services.gateway.app import create_app
from services.gateway.deps import GatewayDeps
from shared.artifacts import ArtifactStore
from shared.config import Settings
from shared.jobs import plugin_sets, reconcile, worker_registry
from shared.jobs.database import Database
from shared.jobs.dispatch import Dispatcher
from shared.jobs.migrations import migrate
from shared.jobs.queue import InMemoryWakeup, WakeupSender
from tests.support.servers import create_database, serve_postgres

STAGE, PLUGIN, FOREIGN = "attack", "stage:attack", "attack:new"

_INSERT_JOBS = """
INSERT INTO jobs (id, tenant, stage, params, seed, produces, state, priority, request_key, code,
    no_cache, pinned, run_when, plugin_set, fence, attempt, lost_count, progress, created_at,
    queued_at, rank, version, event_seq, worker, lease_until)
SELECT CAST(:prefix AS text) || lpad(n::text, 12, '0'), 'tenant-' || (n % CAST(:tenants AS integer)),
    CAST(:stage AS text), '{}', 0, '["OUT"]', CAST(:state AS text), 0, md5(CAST(:prefix AS text) || n), 'code',
    false, true, 'all_succeeded', CAST(:plugin_set AS text), 0, 0, 0, '{}', n, n, n, 1, 1,
    CASE WHEN CAST(:state AS text) = 'running' THEN 'other-' || n END,
    CASE WHEN CAST(:state AS text) = 'running' THEN extract(epoch from clock_timestamp()) + 100000 END
FROM generate_series(1, :n) AS n
"""


@dataclass(frozen=True)
class QueueCase:
    """The contents of the job store."""

    queued: int
    running: int
    tenants: int = 1
    foreign: int = 0  # queued before all others, for workers with another plugin

    @property
    def name(self) -> str:
        more = [f"{self.tenants:,} tenants"] if self.tenants > 1 else []
        more += [f"{self.foreign:,} for others"] if self.foreign else []
        return ", ".join([f"{self.queued:,} queued", f"{self.running:,} running", *more])


def fill_store(db: Database, case: QueueCase) -> None:
    """Insert the rows and let the server update its statistics."""
    with db.write() as connection:
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        for plugins in ((PLUGIN,), (PLUGIN, FOREIGN)):
            row = {
                "d": plugin_sets.compute_digest(STAGE, plugins),
                "s": STAGE,
                "p": plugin_sets.to_canonical_json(plugins),
            }
            connection.execute(text("INSERT INTO plugin_sets VALUES (:d, :s, :p)"), row)
        parts = (
            ("f", case.foreign, "queued", (PLUGIN, FOREIGN)),
            ("q", case.queued, "queued", (PLUGIN,)),
            ("r", case.running, "running", (PLUGIN,)),
        )
        for prefix, n, state, plugins in parts:
            values = {
                "prefix": prefix,
                "n": n,
                "state": state,
                "stage": STAGE,
                "tenants": case.tenants,
            }
            connection.execute(
                text(_INSERT_JOBS),
                {**values, "plugin_set": plugin_sets.compute_digest(STAGE, plugins)},
            )
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")


def time_calls_ms(call: Callable[[], Any], n: int) -> list[float]:
    """Milliseconds of each of `n` calls, sorted."""
    durations_ms = []
    for _ in range(n):
        start = time.perf_counter()
        call()
        durations_ms.append((time.perf_counter() - start) * 1000)
    return sorted(durations_ms)


def measure_claims_per_s(url: str, claimers: int, seconds: float) -> float:
    """Claims per second of `claimers` concurrent workers."""
    names, claim_counter, ended = itertools.count(), itertools.count(), threading.Event()

    def claim_until_empty() -> None:
        db = Database(url)
        dispatcher = Dispatcher(db, f"bench-{next(names)}", (STAGE,), (PLUGIN,))
        while not ended.is_set() and dispatcher.claim(60, secrets.token_hex(8)) is not None:
            next(claim_counter)
        db.close()

    threads = [threading.Thread(target=claim_until_empty) for _ in range(claimers)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    ending = threading.Timer(seconds, ended.set)
    ending.start()
    for thread in threads:  # earlier, if nothing is left
        thread.join()
    ending.cancel()
    return next(claim_counter) / (time.perf_counter() - start)


def measure_case(url: str, case: QueueCase, n: int) -> dict[str, Any]:
    """One row of the table."""
    db = Database(url)
    migrate(db)
    fill_store(db, case)
    dispatcher = Dispatcher(db, "bench", (STAGE,), (PLUGIN,))
    claim_ms = time_calls_ms(lambda: dispatcher.claim(60, secrets.token_hex(8)), n)
    row = {
        "case": case.name,
        "claim_p50_ms": round(statistics.median(claim_ms), 2),
        "claim_p99_ms": round(claim_ms[int(0.99 * (n - 1))], 2),
        "claims_per_s_of_16": round(measure_claims_per_s(url, 16, 4.0), 1),
        "expire_ms": round(
            statistics.median(
                time_calls_ms(
                    lambda: reconcile.expire_leases(db, reconcile.ExpiryGuard(0, 0), 3), 5
                )
            ),
            2,
        ),
        "claimable_ms": round(
            statistics.median(time_calls_ms(lambda: reconcile.count_claimable(db, {STAGE: 4}), 5)),
            2,
        ),
        "counts_ms": round(
            statistics.median(time_calls_ms(lambda: worker_registry.count_jobs_by_stage(db), 5)), 2
        ),
        "get_queues_p99_ms": round(measure_queues_p99_ms(db), 2),
    }
    db.close()
    return row


def measure_queues_p99_ms(db: Database, n: int = 300) -> float:
    """99th percentile of `GET /v1/queues` in milliseconds, at twenty requests per second."""
    settings = Settings(token=SecretStr("bench"))
    deps = GatewayDeps(
        db, ArtifactStore.from_url("memory://"), WakeupSender(InMemoryWakeup()), settings
    )
    client = create_app(deps).test_client()
    headers = {"Authorization": "Bearer bench"}

    def ask() -> None:
        assert client.get("/v1/queues", headers=headers).status_code == 200

    ask()
    durations_ms = []
    for _ in range(n):
        durations_ms += time_calls_ms(ask, 1)
        time.sleep(0.05)
    return sorted(durations_ms)[int(0.99 * (n - 1))]


def list_cases(sizes: list[int]) -> Iterator[QueueCase]:
    for size in sizes:
        yield QueueCase(size, 1000)
    yield QueueCase(max(sizes), 1000, tenants=10_000)
    yield QueueCase(1000, 1000, foreign=max(sizes))


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queued", type=int, nargs="+", default=[1000, 100_000, 1_000_000])
    parser.add_argument(
        "--claims", type=int, default=200, help="number of sequential claims to measure"
    )
    options = parser.parse_args()
    with serve_postgres() as server:
        rows = []
        for case in list_cases(options.queued):
            rows.append(measure_case(create_database(server), case, options.claims))
            print(rows[-1], flush=True)
    print_table(rows)
    write_results("scale", describe_conditions(), rows)


if __name__ == "__main__":
    main()
