"""A thousand workers and a million queued jobs: `python -m benchmarks.engine fleet [--only PART ...]`.

PostgreSQL. The rows are those of `scale`, the workers are simulated (`simulated_workers`). With
`--database` a store that an earlier call has filled is used again; it is not removed.

Parts:
    operations   what each call of a worker costs: statements, processor time, log, blocks
    paced        fleets of 10, 100 and 1,000 workers at their own pace
    storm        workers that all claim at the same moment
    vacuum       claims behind jobs that have left the queue, and beside an open transaction
    sizes        bytes of the tables and of each index
    connections  memory of idle connections, and what they cost a claim
    wakeups      what a reconciler sends to Redis
    rounds       a reconciler's round, its parts, and several reconcilers at once
    gateway      pages and lists, and an audit of 500 jobs planned into that queue
"""

from __future__ import annotations

import argparse
import os
import secrets
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlalchemy import event, select, text, update

from benchmarks.engine.conditions import (
    DISK_FOLDER,
    describe_conditions,
    print_table,
    write_results,
)
from benchmarks.engine.scale import PLUGIN, STAGE, QueueCase, fill_store, time_calls_ms
from benchmarks.engine.server_usage import ServerUsage
from benchmarks.engine.simulated_workers import (
    Pace,
    claim_at_once,
    finish,
    pick_share,
    record_heartbeat,
    register_workers,
    renew,
    run_fleet,
)
from services import reconciler
from services.gateway.app import create_app
from services.gateway.deps import GatewayDeps
from services.gateway.monitoring.monitor import Monitor
from shared.artifacts import ArtifactStore
from shared.config import Settings
from shared.jobs import attempts, plugin_sets, reconcile, revisions, worker_registry
from shared.jobs.collector import Collector
from shared.jobs.database import Database
from shared.jobs.dispatch import Dispatcher
from shared.jobs.migrations import migrate
from shared.jobs.outbox_reader import process_outbox
from shared.jobs.queue import CeleryWakeup, InMemoryWakeup, WakeupSender, make_celery
from shared.jobs.records import Claim
from shared.jobs.retention import Retention
from shared.jobs.tables import jobs, workers
from tests.support.gateway import AUDIT, make_catalog
from tests.support.servers import RedisServer, create_database, serve_postgres

Row = dict[str, Any]
TENANT = "tenant-0"
N_WORKERS = 1000
LONG_LEASE_S = 1e6  # more than the running jobs of `fill_store` have


def prepare(db: Database, n_jobs: int) -> None:
    """The rows, unless an earlier call has made them."""
    with db.engine.connect() as connection:
        is_filled = connection.execute(text("SELECT to_regclass('jobs')")).scalar_one() is not None
    if is_filled:
        return
    migrate(db)
    fill_store(db, QueueCase(n_jobs, N_WORKERS))
    register_workers(db, list_names(N_WORKERS), (STAGE,))


def list_names(n: int) -> list[str]:
    """Names of workers."""
    return [f"worker-{k:05}" for k in range(n)]


def keep_alive(db: Database) -> None:
    """All workers are live for as long as a benchmark takes a minute or so."""
    with db.write() as connection:
        connection.execute(update(workers).values(seen_at=db.now))


def claim_many(db: Database, n: int) -> list[Claim]:
    """The next jobs of the queue."""
    dispatcher = Dispatcher(db, "bench", (STAGE,), (PLUGIN,))
    claims = [dispatcher.claim(6000, secrets.token_hex(8)) for _ in range(n)]
    return [claim for claim in claims if claim is not None]


def measure_operations(db: Database, n: int, rounds: int) -> list[Row]:
    """What one call of each kind costs; rounds take turns, the median counts."""
    usage, statements = ServerUsage(db), [0]

    def count(*_: Any) -> None:
        statements[0] += 1

    event.listen(db.engine, "before_cursor_execute", count)
    names = list_names(N_WORKERS)
    dispatcher = Dispatcher(db, names[0], (STAGE,), (PLUGIN,))
    idle = Dispatcher(db, "idle", ("other",), ("stage:other",))
    claims: list[Claim] = []

    def claim(_: int) -> None:
        made = dispatcher.claim(6000, secrets.token_hex(8))
        assert made is not None
        claims.append(made)

    def renew_quietly(k: int) -> None:
        one = claims[-1 - k]
        assert attempts.renew_lease(db, one.job.id, one.fence, 6000) is not None

    operations: dict[str, Callable[[int], Any]] = {
        "claim": claim,
        "claim, nothing for it": lambda _: idle.claim(60, secrets.token_hex(8)),
        "heartbeat": lambda k: record_heartbeat(db, names[k % N_WORKERS]),
        "renew, nothing new": renew_quietly,
        "renew with progress and heartbeat": lambda k: renew(db, claims[-1 - k], k),
        "finish, one artifact": lambda k: finish(db, claims[-1 - k]),
    }
    measured: dict[str, list[Row]] = {name: [] for name in operations}
    for number in range(rounds + 1):
        for name, operation in operations.items():
            statements[0] = 0
            with usage.measure() as used:
                start, cpu_start = time.perf_counter(), time.thread_time()
                for k in range(n):
                    operation(k)
                cpu_s, took_s = time.thread_time() - cpu_start, time.perf_counter() - start
                called = statements[0]
            if number:  # the first warms caches
                measured[name].append(
                    {
                        "statements": called / n,
                        "client CPU ms": cpu_s / n * 1000,
                        "server CPU ms": used["cpu_s"] / n * 1000,
                        "log bytes": used["log_bytes"] / n,
                        "blocks": used["blocks"] / n,
                        "ms": took_s / n * 1000,
                    }
                )
    event.remove(db.engine, "before_cursor_execute", count)
    return [
        {"call": name}
        | {key: round(statistics.median(row[key] for row in rows), 2) for key in rows[0]}
        for name, rows in measured.items()
    ]


def measure_paced(db: Database, url: str, sizes: Sequence[int], pace: Pace) -> list[Row]:
    """Fleets at their own pace."""
    usage, rows = ServerUsage(db), []
    for n in sizes:
        before = read_table_counts(db)
        with usage.measure() as used:
            samples = run_fleet(url, list_names(n), (STAGE,), (PLUGIN,), pace, 16)
        after = read_table_counts(db)
        head = {"workers": n, "renew_s": pace.renew_s, "job_s": pace.job_s}
        for row in samples.describe(pace.seconds):
            rows.append(head | row)
        print(head, dict(samples.errors), {k: round(v, 2) for k, v in used.items()},
              {k: after[k] - before[k] for k in after},
              "load", [round(x, 1) for x in os.getloadavg()], flush=True)  # fmt: skip
        give_back(db)
    return rows


def give_back(db: Database) -> None:
    """What a simulated fleet still holds is nobody's: out of the way of what comes next."""
    with db.write() as connection:
        connection.execute(
            update(jobs)
            .where(jobs.c.state == "running", jobs.c.worker.not_like("other-%"))
            .values(state="succeeded", finished_at=db.now, lease_until=None)
        )


def read_table_counts(db: Database) -> dict[str, int]:
    """Updates and how many of them touched no index, and rows that are dead."""
    query = text(
        "SELECT relname, n_tup_upd, n_tup_hot_upd, n_dead_tup FROM pg_stat_user_tables "
        "WHERE relname IN ('jobs', 'workers', 'events')"
    )
    time.sleep(1.5)  # statistics are sent at most once a second
    with db.read() as connection:
        rows = connection.execute(query).all()
    return {
        f"{row.relname} {name}": int(value)
        for row in rows
        for name, value in (
            ("updates", row.n_tup_upd),
            ("hot", row.n_tup_hot_upd),
            ("dead", row.n_dead_tup),
        )
    }


def measure_storm(url: str, sizes: Sequence[int], rounds: int) -> list[Row]:
    """All claim at once: how long it takes, and how many get nothing out of a full queue."""
    rows = []
    for n in sizes:
        start = time.perf_counter()
        samples = claim_at_once(url, (STAGE,), (PLUGIN,), n, rounds)
        values = sorted(samples.durations["claim"])
        rows.append(
            {
                "claim at once": n,
                "claims": len(values),
                "got nothing": samples.errors.get("claims without a job", 0),
                "p50 ms": round(pick_share(values, 0.5) * 1000, 1),
                "p95 ms": round(pick_share(values, 0.95) * 1000, 1),
                "p99 ms": round(pick_share(values, 0.99) * 1000, 1),
                "load": round(os.getloadavg()[0], 1),
                "s": round(time.perf_counter() - start),
            }
        )
        print(rows[-1], dict(samples.errors), flush=True)
    return rows


def measure_dead_entries(db: Database, steps: Sequence[int]) -> list[Row]:
    """What a claim costs when many jobs have left the head of the queue and no VACUUM has come since;
    then beside a transaction that began before them, as a backup's does."""
    usage, rows = ServerUsage(db), []

    def vacuum() -> float:
        with db.connect_outside_transaction() as raw:
            raw.execute("SET statement_timeout = 0")
            start = time.perf_counter()
            raw.execute("VACUUM jobs")
            return time.perf_counter() - start

    def measure_claims(since: str, n: int = 100) -> None:
        claim_many(db, 10)  # the first to come by marks what is dead
        with usage.measure() as used:
            start = time.perf_counter()
            claim_many(db, n)
            took_s = time.perf_counter() - start
        rows.append(
            {
                "jobs that have left the queue": since,
                "server CPU ms per claim": round(used["cpu_s"] / n * 1000, 2),
                "blocks per claim": round(used["blocks"] / n),
                "ms per claim": round(took_s / n * 1000, 1),
                "load": round(os.getloadavg()[0], 1),
            }
        )
        print(rows[-1], flush=True)

    print("VACUUM jobs", round(vacuum(), 1), "s", flush=True)
    left = 0
    measure_claims("none since VACUUM")
    for step in steps:
        end_first_jobs(db, step - left)
        left = step
        measure_claims(f"{step:,} since VACUUM")
    print("VACUUM jobs", round(vacuum(), 1), "s", flush=True)
    measure_claims("none since VACUUM")
    other = db.engine.connect().execution_options(isolation_level="REPEATABLE READ")
    other.execute(select(jobs.c.id).limit(1)).all()
    end_first_jobs(db, steps[0])
    measure_claims(f"{steps[0]:,} beside an open transaction")
    vacuum()
    measure_claims(f"{steps[0]:,} and VACUUM beside an open transaction")
    other.rollback()
    other.close()
    vacuum()
    measure_claims("none since VACUUM")
    give_back(db)
    return rows


def end_first_jobs(db: Database, n: int) -> None:
    """The best jobs of the queue end, as if they had been claimed and had run."""
    first = text(
        "UPDATE jobs SET state = 'succeeded', finished_at = queued_at WHERE id IN (SELECT id "
        "FROM jobs WHERE state = 'queued' ORDER BY plugin_set, tenant, rank, id LIMIT :n)"
    )
    with db.write() as connection:
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(first, {"n": n})


def measure_connections(db: Database, url: str, n: int) -> list[Row]:
    """What the server keeps for each connection of a worker that has claimed and renewed, and what
    idle ones cost the others."""
    rows = []
    opened: list[Database] = []
    for size in (0, n // 4, n):
        while len(opened) < size:
            one = Database(url)
            record_heartbeat(one, "worker-00000")
            (claim,) = claim_many(one, 1)
            renew(one, claim, 1)
            finish(one, claim)
            opened.append(one)
        usage = ServerUsage(db)
        before_s, start = usage.read_cpu_s(), time.perf_counter()
        claims = claim_many(db, 200)
        server_ms = (usage.read_cpu_s() - before_s) * 1000 / 200
        rows.append(
            {
                "idle connections": size,
                "memory of all, MB": round(usage.read_memory_bytes() / 1e6),
                "claim, server CPU ms": round(server_ms, 2),
                "claim, ms": round((time.perf_counter() - start) * 1000 / 200, 2),
            }
        )
        for claim in claims:
            finish(db, claim)
        print(rows[-1], flush=True)
    for one in opened:
        one.close()
    return rows


def measure_sizes(db: Database) -> list[Row]:
    """Bytes of the tables and indexes."""
    query = text(
        "SELECT c.relname, CASE c.relkind WHEN 'r' THEN 'table' ELSE 'index' END AS kind, "
        "pg_table_size(c.oid) AS size, c.reltuples FROM pg_class c JOIN pg_namespace n "
        "ON n.oid = c.relnamespace WHERE n.nspname = 'public' AND c.relkind IN ('r', 'i') "
        "ORDER BY pg_table_size(c.oid) DESC LIMIT 30"
    )
    with db.read() as connection:
        rows = connection.execute(query).all()
    return [
        {
            "what": row.relname,
            "kind": row.kind,
            "MB": round(row.size / 1e6, 1),
            "rows": int(row.reltuples),
        }
        for row in rows
    ]


def _make_settings() -> Settings:
    """No lease of the rows is one that a changed clock has given."""
    return Settings(token=SecretStr("bench"), lease_s=LONG_LEASE_S)


class CountingQueue:
    """A queue of wake-ups that nobody takes from; counts what is asked of it."""

    def __init__(self) -> None:
        self.asked = self.notified = 0

    def depth(self, stage: str) -> int:  # noqa: ARG002 - the signature of a QueueDepth
        self.asked += 1
        return 0

    def notify(self, stage: str, job_id: str = "") -> None:  # noqa: ARG002 - as a WakeupQueue
        self.notified += 1

    publish = notify


def measure_rounds(db: Database) -> list[Row]:
    """A round of a reconciler with all workers live, in its parts."""
    keep_alive(db)
    usage, queue, settings = ServerUsage(db), CountingQueue(), _make_settings()
    guard = reconcile.ExpiryGuard(0, 0)
    guard.clock_set_back = False
    collector = Collector(
        db, ArtifactStore.from_url("memory://"), Retention.from_settings(settings)
    )
    limits = {STAGE: 2 * N_WORKERS}
    parts: dict[str, Callable[[], Any]] = {
        "clamp_future_times": lambda: reconcile.clamp_future_times(db, LONG_LEASE_S, 10),
        "expire_leases, none": lambda: reconcile.expire_leases(db, guard, 3),
        "count_live_by_stage": lambda: worker_registry.count_live_by_stage(db),
        "count_claimable": lambda: reconcile.count_claimable(db, limits),
        "reconcile_once": lambda: reconciler.reconcile_once(
            db, queue, queue.depth, settings, guard
        ),
        "process_outbox, up to 10,000": lambda: process_outbox(db),
        "process_outbox, nothing": lambda: process_outbox(db),
        "collect, hourly part too": collector.collect,
        "collect": collector.collect,
        "read_revisions": lambda: revisions.read_revisions(db, [revisions.Topic(None)]),
        "shift_future_queue_times": lambda: reconcile.shift_future_queue_times(db),
    }
    rows = []
    for name, part in parts.items():
        tries = 1 if name.startswith(("process_outbox, up", "collect")) else 3
        with usage.measure() as used:
            cpu_start = time.thread_time()
            took_ms = time_calls_ms(part, tries)
            cpu_ms = (time.thread_time() - cpu_start) * 1000
        rows.append(
            {
                "part": name,
                "client CPU ms": round(cpu_ms / tries, 1),
                "server CPU ms": round(used["cpu_s"] / tries * 1000, 1),
                "blocks": round(used["blocks"] / tries),
                "ms": round(statistics.median(took_ms), 1),
            }
        )
        print(rows[-1], flush=True)
    print("wake-ups of a round", queue.notified, "asked for the depth", queue.asked, flush=True)
    return rows


def measure_wakeups(db: Database) -> list[Row]:
    """Rounds of a reconciler with a real Redis, all workers live and busy: nobody takes a wake-up."""
    rows = []
    with tempfile.TemporaryDirectory(dir=DISK_FOLDER) as folder:
        redis = RedisServer(Path(folder)).start()
        wakeup, settings = CeleryWakeup(make_celery(redis.url)), _make_settings()
        guard = reconcile.ExpiryGuard(45, 5)
        guard.clock_set_back = False
        for number in (1, 2, 3):
            keep_alive(db)
            start, cpu_start = time.perf_counter(), time.thread_time()
            reconciler.reconcile_once(db, wakeup, wakeup.depth, settings, guard)
            rows.append(
                {
                    "round": number,
                    "CPU ms": round((time.thread_time() - cpu_start) * 1000),
                    "ms": round((time.perf_counter() - start) * 1000),
                    "pending wake-ups": wakeup.depth(STAGE),
                }
            )
        redis.stop()
    return rows


def measure_expiry(db: Database, url: str, reconcilers: int, n: int) -> list[Row]:
    """All leases of `n` workers run out at once: how long until their jobs are queued again."""
    claims = claim_many(db, n)
    with db.write() as connection:
        mine = jobs.c.id.in_([claim.job.id for claim in claims])
        connection.execute(update(jobs).where(mine).values(lease_until=db.now - 1))
    usage, ended = ServerUsage(db), [list[str]() for _ in range(reconcilers)]

    def expire(k: int) -> None:
        own = Database(url)
        guard = reconcile.ExpiryGuard(0, 0)
        while found := reconcile.expire_leases(own, guard, 3, 10.0):
            ended[k] += found
        own.close()

    with usage.measure() as used:
        start = time.perf_counter()
        threads = [threading.Thread(target=expire, args=(k,)) for k in range(reconcilers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took_s = time.perf_counter() - start
    all_ended = [job for one in ended for job in one]
    assert len(all_ended) == len(set(all_ended)) == n
    return [
        {
            "reconcilers": reconcilers,
            "expired leases": n,
            "calls of at most 100": n // 100,
            "s": round(took_s, 2),
            "server CPU ms per lease": round(used["cpu_s"] / n * 1000, 2),
            "by each": [len(one) for one in ended],
        }
    ]


def measure_gateway(db: Database) -> list[Row]:
    """Pages, lists and an audit, with a million queued jobs and a thousand workers."""
    worker_registry.publish_catalog(db, make_catalog())
    with db.write() as connection:
        for stage in make_catalog().list_names("stage"):
            plugins = (f"stage:{stage}",)
            row = {
                "d": plugin_sets.compute_digest(stage, plugins),
                "s": stage,
                "p": plugin_sets.to_canonical_json(plugins),
            }
            connection.execute(
                text("INSERT INTO plugin_sets VALUES (:d, :s, :p) ON CONFLICT DO NOTHING"), row
            )
    keep_alive(db)
    settings = Settings(token=SecretStr("bench"), tenant=TENANT, broker_url="redis://127.0.0.1:1/0")
    sender = WakeupSender(InMemoryWakeup())
    deps = GatewayDeps(db, ArtifactStore.from_url("memory://"), sender, settings)
    client, usage = create_app(deps).test_client(use_cookies=False), ServerUsage(db)
    headers = {"Authorization": "Bearer bench"}
    page = headers | {"Accept": "text/html"}
    seeds = iter(range(10**6))

    def get(path: str, sent: dict[str, str] = headers) -> None:
        answer = client.get(path, headers=sent)
        assert answer.status_code == 200, (path, answer.get_data(as_text=True)[:300])

    def post_audit() -> None:
        first = 1000 * next(seeds)
        body = AUDIT | {"name": f"n {first}", "seeds": list(range(first, first + 45))}
        answer = client.post("/v1/audits", json=body, headers=headers)
        assert answer.status_code == 202, answer.get_data(as_text=True)[:300]
        print("jobs of the audit", sum(answer.get_json()["counts"].values()), flush=True)

    calls: dict[str, Callable[[], None]] = {
        "GET /v1/queues": lambda: get("/v1/queues"),
        "GET /v1/workers": lambda: get("/v1/workers"),
        "GET /v1/jobs": lambda: get("/v1/jobs"),
        "GET /v1/jobs?state=running": lambda: get("/v1/jobs?state=running"),
        "home page": lambda: get("/", page),
        "/workers page": lambda: get("/workers", page),
        "/jobs page": lambda: get("/jobs", page),
        "/metrics, uncached": lambda: Monitor(db, settings).render("") and None,
        "POST /v1/audits, 500 jobs": post_audit,
    }
    rows = []
    for name, call in calls.items():
        tries = 3
        try:
            call()
        except AssertionError as error:
            print(name, error, flush=True)
            continue
        with usage.measure() as used:
            cpu_start = time.process_time()
            took_ms = time_calls_ms(call, tries)
            cpu_ms = (time.process_time() - cpu_start) * 1000
        rows.append(
            {
                "what": name,
                "gateway CPU ms": round(cpu_ms / tries, 1),
                "server CPU ms": round(used["cpu_s"] / tries * 1000, 1),
                "blocks": round(used["blocks"] / tries),
                "ms": round(statistics.median(took_ms), 1),
            }
        )
        print(rows[-1], flush=True)
    sender.close()
    return rows


PARTS = (
    "sizes",
    "operations",
    "paced",
    "storm",
    "connections",
    "wakeups",
    "rounds",
    "expiry",
    "gateway",
    "vacuum",
)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--database", help="URL of an empty database, or of one filled before")
    parser.add_argument("--workers", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--renew-s", type=float, default=3.0)
    parser.add_argument("--job-s", type=float, default=60.0)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each paced fleet")
    parser.add_argument("--connections", type=int, default=80, help="idle ones")
    parser.add_argument("--calls", type=int, default=200, help="of each kind, per round")
    options = parser.parse_args()
    with serve_postgres() if options.database is None else nullcontext("") as server:
        url = options.database or create_database(server)
        db = Database(url)
        prepare(db, options.jobs)
        print("filled", flush=True)
        pace = Pace(options.renew_s, options.job_s, options.seconds)
        run: dict[str, Callable[[], list[Row]]] = {
            "sizes": lambda: measure_sizes(db),
            "operations": lambda: measure_operations(db, options.calls, 3),
            "paced": lambda: measure_paced(db, url, options.workers, pace),
            "storm": lambda: measure_storm(url, (16, 32, 64), 10),
            "connections": lambda: measure_connections(db, url, options.connections),
            "wakeups": lambda: measure_wakeups(db),
            "rounds": lambda: measure_rounds(db),
            "expiry": lambda: [
                *measure_expiry(db, url, 1, 1000),
                *measure_expiry(db, url, 3, 1000),
            ],
            "gateway": lambda: measure_gateway(db),
            "vacuum": lambda: measure_dead_entries(db, (10_000, 50_000, 150_000)),
        }
        for name in options.only:
            measured_under = describe_conditions()
            print(name, measured_under, flush=True)
            rows = run[name]()
            print_table(rows)
            write_results(f"fleet-{name}", measured_under, rows)
        db.close()


if __name__ == "__main__":
    main()
