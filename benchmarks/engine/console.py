"""What the console's home page costs with many workers and jobs: `python -m benchmarks.engine
console`.

200 workers, 100,000 jobs in 50 audits, most of them ended; on SQLite and on PostgreSQL, to who
administers and to who only reads. The page is asked for as a browser does, without a network. With
`--plans` the slowest statements are shown as the database runs them.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlalchemy import Table, event, insert, select, update

from benchmarks.engine.conditions import (
    DISK_FOLDER,
    describe_conditions,
    print_table,
    write_results,
)
from services.gateway.app import create_app
from services.gateway.console.home import HOMES_KEY
from services.gateway.deps import GatewayDeps
from shared.artifacts import ArtifactStore
from shared.config import Settings
from shared.jobs import keys, worker_registry
from shared.jobs.database import Database
from shared.jobs.migrations import migrate
from shared.jobs.queue import InMemoryWakeup, WakeupSender
from shared.jobs.tables import audit_jobs, audits, jobs, workers
from shared.jobs.tenants import ensure_tenant
from tests.support.servers import create_database, serve_postgres

TENANT = "local"
N_AUDITS, N_STAGES = 50, 12
RUNNING, QUEUED, WAITING = 200, 8000, 2000
ENDED_LATELY = 1000  # within the window over which rates are taken
BATCH = 5000
REQUESTS = 200
FIRST_VISITS = 15


def fill_store(db: Database, n_jobs: int, n_workers: int) -> None:
    """Rows as a busy service has them."""
    ensure_tenant(db, TENANT)
    with db.read() as connection:
        now = float(connection.execute(select(db.now)).scalar_one())
    _insert(
        db,
        audits,
        (
            {"id": f"aud_{n:020x}", "tenant": TENANT, "name": f"nightly {n}", "spec": "{}", "created_at": now - n}
            for n in range(N_AUDITS)
        ),
    )  # fmt: skip
    _insert(db, jobs, (_make_job(n, now, n_workers) for n in range(n_jobs)))
    _insert(
        db,
        audit_jobs,
        (
            {"audit": f"aud_{n % N_AUDITS:020x}", "job": f"job_{n:020x}", "detached": False}
            for n in range(n_jobs)
        ),
    )
    for n in range(n_workers):
        worker_registry.register_worker(
            db, f"worker-{n:03}", host=f"host-{n // 8}", pid=n,
            stages=tuple(f"stage-{(n + k) % N_STAGES:02}" for k in range(4)),
            device="cuda:0 NVIDIA H100", threads=8, versions={"torch": "2.7.1"}, catalog="none",
        )  # fmt: skip
    for table in (jobs, audits, audit_jobs):
        db.analyze(table)


def _make_job(n: int, now: float, n_workers: int) -> dict[str, Any]:
    if n < RUNNING:
        state = "running"
    elif n < RUNNING + QUEUED:
        state = "queued"
    elif n < RUNNING + QUEUED + WAITING:
        state = "waiting"
    else:
        state = "failed" if n % 100 == 0 else "succeeded"
    is_ended = state in ("failed", "succeeded")
    is_late = n < RUNNING + QUEUED + WAITING + ENDED_LATELY
    return {
        "id": f"job_{n:020x}", "tenant": TENANT, "stage": f"stage-{n % N_STAGES:02}", "params": "{}",
        "seed": 0, "produces": "[]", "state": state, "priority": 0, "request_key": f"{n:064x}",
        "code": "code", "no_cache": False, "pinned": True, "fence": 0, "attempt": 0, "lost_count": 0,
        "progress": '{"done": 3, "total": 10}', "created_at": now - n, "queued_at": now - n,
        "rank": float(n), "version": 1, "event_seq": 1,
        "worker": f"worker-{n % n_workers:03}" if state == "running" else None,
        "lease_until": now + 1e6 if state == "running" else None,
        "started_at": None if state in ("queued", "waiting") else now - 60.0,
        "finished_at": (now - (n % 500 if is_late else 86_400.0 + n)) if is_ended else None,
    }  # fmt: skip


def _insert(db: Database, table: Table, rows: Iterator[dict[str, Any]]) -> None:
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == BATCH:
            with db.write() as connection:
                connection.execute(insert(table), batch)
            batch = []
    if batch:
        with db.write() as connection:
            connection.execute(insert(table), batch)


def measure(db: Database, store: str, n_jobs: int, n_workers: int) -> Iterator[dict[str, Any]]:
    """A row of the table for who administers, and one for who reads."""
    settings = Settings(token=SecretStr("bench"), tenant=TENANT, broker_url="redis://127.0.0.1:1/0")
    sender = WakeupSender(InMemoryWakeup())
    app = create_app(GatewayDeps(db, ArtifactStore.from_url("memory://"), sender, settings))
    reader = keys.create_key(db, TENANT, "", ["read"])[1]
    statements: list[str] = []
    event.listen(db.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    for who, secret in (("who administers", "bench"), ("who reads", reader)):
        client = app.test_client(use_cookies=False)
        headers = {"Authorization": f"Bearer {secret}", "Accept": "text/html"}
        visit = partial(client.get, "/", headers=headers)
        sizes, times_ms, cpu_ms = [], [], []
        for n in range(REQUESTS + 5):
            statements.clear()
            start, cpu_start = time.perf_counter(), time.thread_time()
            answer = visit()
            took_ms = (time.perf_counter() - start) * 1000
            took_cpu_ms = (time.thread_time() - cpu_start) * 1000
            assert answer.status_code == 200, answer.get_data(as_text=True)
            if n >= 5:  # the first fill caches and compile the template
                times_ms.append(took_ms)
                cpu_ms.append(took_cpu_ms)
                sizes.append(len(answer.get_data()))
        times_ms.sort()
        yield {
            "store": store,
            "shown to": who,
            "jobs": f"{n_jobs:,}",
            "workers": n_workers,
            "median ms": round(statistics.median(times_ms), 1),
            "95th percentile ms": round(times_ms[int(0.95 * (len(times_ms) - 1))], 1),
            "CPU ms": round(statistics.median(cpu_ms), 1),
            "kB": round(max(sizes) / 1000, 1),
            **_measure_first(lambda: app.extensions.pop(HOMES_KEY), visit, statements),
        }
    sender.close()


def _measure_first(
    forget: Callable[[], Any], visit: Callable[[], Any], statements: list[str]
) -> dict[str, Any]:
    """What it costs who comes when no home was read for a while."""
    times_ms = []
    for _ in range(FIRST_VISITS):
        forget()
        statements.clear()
        start = time.perf_counter()
        visit()
        times_ms.append((time.perf_counter() - start) * 1000)
    return {
        "first visit ms": round(statistics.median(times_ms), 1),
        "statements of it": len(statements),
    }


def time_statements(db: Database) -> None:
    """Print the statements of one page with the milliseconds of each."""
    began: dict[int, float] = {}
    rows: list[dict[str, Any]] = []

    def begin(*args: Any) -> None:
        began[id(args[1])] = time.perf_counter()

    def end(*args: Any) -> None:
        took_ms = (time.perf_counter() - began[id(args[1])]) * 1000
        rows.append({"ms": round(took_ms, 2), "statement": " ".join(args[2].split())[:160]})

    event.listen(db.engine, "before_cursor_execute", begin)
    event.listen(db.engine, "after_cursor_execute", end)
    for row in measure(db, "", 0, 0):
        latest = rows[-row["statements of it"] :]
        print_table(sorted(latest, key=lambda one: -one["ms"])[:8])


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=200)
    parser.add_argument("--plans", action="store_true", help="also show the slowest statements")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=DISK_FOLDER) as folder, serve_postgres() as server:
        stores = {
            "SQLite": f"sqlite:///{Path(folder)}/palimpsest.db",
            "PostgreSQL": create_database(server),
        }
        for store, url in stores.items():
            db = Database(url)
            migrate(db)
            fill_store(db, options.jobs, options.workers)
            _keep_alive(db)
            rows += measure(db, store, options.jobs, options.workers)
            print(rows[-2:], flush=True)
            if options.plans:
                time_statements(db)
            db.close()
    print_table(rows)
    write_results("console", describe_conditions(), rows)


def _keep_alive(db: Database) -> None:
    """As if every worker had sent a heartbeat just before the last request."""
    with db.write() as connection:
        connection.execute(
            update(workers).values(seen_at=db.now + worker_registry.LIVE_WITHIN_S - 1)
        )


if __name__ == "__main__":
    main()
