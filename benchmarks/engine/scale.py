"""What a claim costs in long queues: `python -m benchmarks.engine.scale [--queued 1000 100000 1000000]`.

Rows are made by the server. Every case is measured on its own PostgreSQL database, in one run; claims are real
ones, so each takes its job from the queue.
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

from benchmarks.engine.conditions import conditions, print_table, write
from services.gateway.app import create_app
from services.gateway.deps import GatewayDeps
from shared.artifacts import ArtifactStore
from shared.config import Settings
from shared.jobs import fleet, plugin_sets, reconcile
from shared.jobs.database import Database
from shared.jobs.dispatch import Dispatcher
from shared.jobs.migrations import migrate
from shared.jobs.queue import MemoryBell, Ringer
from tests.support.servers import fresh_database, postgres

STAGE, PLUGIN, FOREIGN = "attack", "stage:attack", "attack:new"

_FILL = """
INSERT INTO jobs (id, tenant, stage, params, seed, produces, state, priority, plan_key, code, fresh, direct, tolerant,
    plugin_set, fence, attempt, lost_count, progress, created_at, queued_at, rank, version, event_seq, worker,
    lease_until)
SELECT CAST(:prefix AS text) || lpad(n::text, 12, '0'), 'tenant-' || (n % CAST(:tenants AS integer)),
    CAST(:stage AS text), '{}', 0, '["OUT"]', CAST(:state AS text), 0, md5(CAST(:prefix AS text) || n), 'code',
    false, true, false, CAST(:plugin_set AS text), 0, 0, 0, '{}', n, n, n, 1, 1,
    CASE WHEN CAST(:state AS text) = 'running' THEN 'other-' || n END,
    CASE WHEN CAST(:state AS text) = 'running' THEN extract(epoch from clock_timestamp()) + 100000 END
FROM generate_series(1, :n) AS n
"""


@dataclass(frozen=True)
class Case:
    """What stands in the store."""

    queued: int
    running: int
    tenants: int = 1
    foreign: int = 0  # queued before all others, for workers with another plugin

    @property
    def name(self) -> str:
        more = [f"{self.tenants:,} tenants"] if self.tenants > 1 else []
        more += [f"{self.foreign:,} for others"] if self.foreign else []
        return ", ".join([f"{self.queued:,} queued", f"{self.running:,} running", *more])


def fill(db: Database, case: Case) -> None:
    """Make the rows, and let the server gather its statistics."""
    with db.write() as connection:
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        for plugins in ((PLUGIN,), (PLUGIN, FOREIGN)):
            row = {"d": plugin_sets.digest(STAGE, plugins), "s": STAGE, "p": plugin_sets.canonical(plugins)}
            connection.execute(text("INSERT INTO plugin_sets VALUES (:d, :s, :p)"), row)
        parts = (
            ("f", case.foreign, "queued", (PLUGIN, FOREIGN)),
            ("q", case.queued, "queued", (PLUGIN,)),
            ("r", case.running, "running", (PLUGIN,)),
        )
        for prefix, n, state, plugins in parts:
            given = {"prefix": prefix, "n": n, "state": state, "stage": STAGE, "tenants": case.tenants}
            connection.execute(text(_FILL), {**given, "plugin_set": plugin_sets.digest(STAGE, plugins)})
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")


def timed(call: Callable[[], Any], n: int) -> list[float]:
    """Milliseconds of each of `n` calls, sorted."""
    found = []
    for _ in range(n):
        start = time.perf_counter()
        call()
        found.append((time.perf_counter() - start) * 1000)
    return sorted(found)


def claims_together(url: str, claimers: int, seconds: float) -> float:
    """Claims a second of so many workers at once."""
    names, done, ended = itertools.count(), itertools.count(), threading.Event()

    def one() -> None:
        db = Database(url)
        dispatcher = Dispatcher(db, f"bench-{next(names)}", (STAGE,), (PLUGIN,))
        while not ended.is_set() and dispatcher.claim(60, secrets.token_hex(8)) is not None:
            next(done)
        db.close()

    threads = [threading.Thread(target=one) for _ in range(claimers)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    ending = threading.Timer(seconds, ended.set)
    ending.start()
    for thread in threads:  # earlier, if nothing is left
        thread.join()
    ending.cancel()
    return next(done) / (time.perf_counter() - start)


def measure(url: str, case: Case, n: int) -> dict[str, Any]:
    """One row of the table."""
    db = Database(url)
    migrate(db)
    fill(db, case)
    dispatcher = Dispatcher(db, "bench", (STAGE,), (PLUGIN,))
    claim = timed(lambda: dispatcher.claim(60, secrets.token_hex(8)), n)
    row = {
        "case": case.name,
        "claim_p50_ms": round(statistics.median(claim), 2),
        "claim_p99_ms": round(claim[int(0.99 * (n - 1))], 2),
        "claims_per_s_of_16": round(claims_together(url, 16, 4.0), 1),
        "expire_ms": round(
            statistics.median(timed(lambda: reconcile.expire_leases(db, reconcile.Watch(0, 0), 3), 5)), 2
        ),
        "claimable_ms": round(statistics.median(timed(lambda: reconcile.count_claimable(db, {STAGE: 4}), 5)), 2),
        "counts_ms": round(statistics.median(timed(lambda: fleet.stage_counts(db), 5)), 2),
        "get_queues_p99_ms": round(queues_p99(db), 2),
    }
    db.close()
    return row


def queues_p99(db: Database, n: int = 300) -> float:
    """Milliseconds of `GET /v1/queues`, asked twenty times a second."""
    settings = Settings(token=SecretStr("bench"))
    deps = GatewayDeps(db, ArtifactStore.from_url("memory://"), Ringer(MemoryBell()), settings)
    client = create_app(deps).test_client()
    headers = {"Authorization": "Bearer bench"}

    def ask() -> None:
        assert client.get("/v1/queues", headers=headers).status_code == 200

    ask()
    found = []
    for _ in range(n):
        found += timed(ask, 1)
        time.sleep(0.05)
    return sorted(found)[int(0.99 * (n - 1))]


def cases(sizes: list[int]) -> Iterator[Case]:
    for size in sizes:
        yield Case(size, 1000)
    yield Case(max(sizes), 1000, tenants=10_000)
    yield Case(1000, 1000, foreign=max(sizes))


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queued", type=int, nargs="+", default=[1000, 100_000, 1_000_000])
    parser.add_argument("--claims", type=int, default=200, help="measured one after the other")
    given = parser.parse_args()
    with postgres() as server:
        rows = []
        for case in cases(given.queued):
            rows.append(measure(fresh_database(server), case, given.claims))
            print(rows[-1], flush=True)
    print_table(rows)
    write("scale", conditions(), rows)


if __name__ == "__main__":
    main()
