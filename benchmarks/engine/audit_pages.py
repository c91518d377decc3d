"""What the console's pages of an audit of 10,000 jobs cost: `python -m benchmarks.engine audit-pages`.

On SQLite and on PostgreSQL. The audit is posted as a user does; then its jobs get states, artifacts
and previews by SQL, as workers would leave them in the middle of it. 200 small audits stand beside
it. Pages are asked for as a browser does, without a network; processor time is that of the gateway
(with SQLite in it) and that of PostgreSQL. `--plans` shows the slowest statements of each page.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient
from pydantic import SecretStr
from sqlalchemy import event

from benchmarks.engine.conditions import (
    DISK_FOLDER,
    describe_conditions,
    print_table,
    write_results,
)
from benchmarks.engine.server_usage import ServerUsage
from services.gateway.app import create_app
from services.gateway.deps import GatewayDeps
from shared.artifacts import ArtifactStore
from shared.config import Settings
from shared.jobs import worker_registry
from shared.jobs.audit_deletion import estimate_deletion
from shared.jobs.database import Database
from shared.jobs.migrations import migrate
from shared.jobs.queue import InMemoryWakeup, WakeupSender
from shared.jobs.revisions import Topic, read_revisions
from tests.support.gateway import AUDIT, make_catalog
from tests.support.servers import create_database, serve_postgres

TENANT = "local"
HEADERS = {"Authorization": "Bearer bench"}
HTML = HEADERS | {"Accept": "text/html"}
TRIES = 5
_SEED_STATES = (
    "UPDATE jobs SET state = 'succeeded', started_at = created_at, finished_at = created_at + 60 "
    "WHERE seed < 70 AND stage <> 'report'",
    "UPDATE jobs SET state = 'failed', failure = 'error', message = 'broken ' || seed, "
    "finished_at = created_at + 60 WHERE seed BETWEEN 70 AND 80 AND stage = 'attack'",
    "UPDATE jobs SET state = 'running', started_at = created_at, worker = 'w', lease_until = 1e11, "
    'progress = \'{"done":3,"total":10,"matching_loss":0.1}\' '
    "WHERE seed BETWEEN 81 AND 90 AND stage = 'attack'",
    "INSERT INTO artifacts (tenant, sha256, size, media_type, origin, created_at) "
    "SELECT tenant, substr(id || request_key, 1, 64), 1000, 'application/octet-stream', id, created_at "
    "FROM jobs WHERE state = 'succeeded'",
    "INSERT INTO job_artifacts (job, role, tenant, sha256) "
    "SELECT id, 'OUT', tenant, substr(id || request_key, 1, 64) FROM jobs WHERE state = 'succeeded'",
)


def make_client(db: Database) -> tuple[FlaskClient, WakeupSender]:
    """A gateway in this process."""
    settings = Settings(token=SecretStr("bench"), tenant=TENANT, broker_url="redis://127.0.0.1:1/0")
    sender = WakeupSender(InMemoryWakeup())
    app = create_app(GatewayDeps(db, ArtifactStore.from_url("memory://"), sender, settings))
    return app.test_client(use_cookies=False), sender


def post_audit(client: FlaskClient, name: str, **fields: Any) -> tuple[str, int]:
    """Its id, and how many jobs it has."""
    answer = client.post("/v1/audits", json={**AUDIT, "name": name, **fields}, headers=HEADERS)
    assert answer.status_code == 202, answer.get_data(as_text=True)[:300]
    body = answer.get_json()
    return body["id"], sum(body["counts"].values())


def fill_store(db: Database, client: FlaskClient, seeds: int) -> tuple[str, int]:
    """The large audit in the middle of its work, and small ones."""
    rates = ({"name": "ascent", "params": {"rate": n / 100}} for n in range(1, 11))
    attacks = [{"name": "invert", "params": {"iterations": n}} for n in (100, 200, 300)]
    large = post_audit(
        client, "large", seeds=list(range(seeds)), unlearning=["retrain", *rates], attacks=attacks
    )
    for n in range(200):
        post_audit(client, f"small {n}", seeds=[n + 10_000], unlearning=["ascent"])
    with db.write() as connection:
        for statement in _SEED_STATES:
            connection.exec_driver_sql(statement)
    with db.connect_outside_transaction() as raw:
        if db.dialect == "postgresql":
            raw.execute("SET statement_timeout = 0")
            raw.execute("VACUUM ANALYZE")
    return large


def measure(
    db: Database, store: str, name: str, call: Callable[[], int], *, with_plans: bool
) -> dict[str, Any]:
    """A row of the table."""
    times: list[tuple[float, str]] = []
    began: list[float] = []

    def begin(*_: Any) -> None:
        began.append(time.perf_counter())

    def end(*args: Any) -> None:
        times.append(((time.perf_counter() - began.pop()) * 1000, " ".join(args[2].split())[:150]))

    event.listen(db.engine, "before_cursor_execute", begin)
    event.listen(db.engine, "after_cursor_execute", end)
    size = call()
    times.clear()
    call()
    event.remove(db.engine, "before_cursor_execute", begin)
    event.remove(db.engine, "after_cursor_execute", end)
    usage = ServerUsage(db) if db.dialect == "postgresql" else None
    server_s = usage.read_cpu_s() if usage else 0.0
    cpu_ms, took_ms = [], []
    for _ in range(TRIES):
        start, cpu_start = time.perf_counter(), time.thread_time()
        call()
        cpu_ms.append((time.thread_time() - cpu_start) * 1000)
        took_ms.append((time.perf_counter() - start) * 1000)
    if usage:
        server_s = usage.read_cpu_s() - server_s
    if with_plans:
        for took, statement in sorted(times, reverse=True)[:4]:
            print(f"    {took:8.1f} ms  {statement}")
    return {
        "store": store,
        "page": name,
        "gateway CPU ms": round(statistics.median(cpu_ms), 1),
        "server CPU ms": round(server_s / TRIES * 1000, 1) if usage else "",
        "ms": round(statistics.median(took_ms), 1),
        "statements": len(times),
        "kB": round(size / 1000, 1),
        "load": round(os.getloadavg()[0], 1),
    }


def measure_store(db: Database, store: str, seeds: int, with_plans: bool) -> list[dict[str, Any]]:
    """All pages on one kind of job store."""
    worker_registry.publish_catalog(db, make_catalog())
    client, sender = make_client(db)
    audit, n_jobs = fill_store(db, client, seeds)
    print(store, "jobs of the audit:", n_jobs, flush=True)

    def get(path: str) -> Callable[[], int]:
        def ask() -> int:
            answer = client.get(path, headers=HTML)
            assert answer.status_code == 200, (path, answer.status_code)
            return len(answer.get_data())

        return ask

    def find_job(stage: str) -> str:
        path = f"/v1/jobs?audit={audit}&stage={stage}"
        return str(client.get(path, headers=HEADERS).get_json()["items"][0]["id"])

    def call_store(function: Callable[[], Any]) -> Callable[[], int]:
        def call() -> int:
            function()
            return 0

        return call

    calls = {
        "audit": get(f"/audits/{audit}"),
        "audits": get("/audits"),
        "audits that have failed": get("/audits?state=failed"),
        "jobs of the audit": get(f"/jobs?audit={audit}"),
        "jobs of the audit that have failed": get(f"/jobs?audit={audit}&state=failed"),
        "jobs of the audit by method": get(f"/jobs?audit={audit}&stage=attack&method=invert"),
        "jobs": get("/jobs"),
        "report's job": get(f"/jobs/{find_job('report')}"),
        "pretraining's job": get(f"/jobs/{find_job('pretrain')}"),
        "an attack's job": get(f"/jobs/{find_job('attack')}"),
        "deletion dialog": get(f"/audits/{audit}/delete"),
        "estimate_deletion": call_store(lambda: estimate_deletion(db, TENANT, audit)),
        "revision of the audit": call_store(lambda: read_revisions(db, [Topic(TENANT, audit)])),
    }
    rows = []
    for name, call in calls.items():
        rows.append(measure(db, store, name, call, with_plans=with_plans))
        print(rows[-1], flush=True)
    sender.close()
    return rows


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=99, help="about 100 jobs each")
    parser.add_argument("--only", choices=["SQLite", "PostgreSQL"])
    parser.add_argument("--plans", action="store_true", help="also show the slowest statements")
    options = parser.parse_args()
    measured_under, rows = describe_conditions(), []
    stores = [options.only] if options.only else ["SQLite", "PostgreSQL"]
    server_context = serve_postgres() if "PostgreSQL" in stores else nullcontext("")
    with tempfile.TemporaryDirectory(dir=DISK_FOLDER) as folder, server_context as server:
        for store in stores:
            is_file = store == "SQLite"
            url = f"sqlite:///{Path(folder)}/palimpsest.db" if is_file else create_database(server)
            db = Database(url)
            migrate(db)
            rows += measure_store(db, store, options.seeds, options.plans)
            db.close()
    print_table(rows)
    write_results("audit-pages", measured_under, rows)


if __name__ == "__main__":
    main()
