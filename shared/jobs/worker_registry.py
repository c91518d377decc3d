"""Registered workers, and the catalog they publish."""

from __future__ import annotations

import json
from typing import Any

import structlog
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    case,
    exists,
    func,
    insert,
    literal,
    select,
    update,
)

from shared.catalog import MAX_BYTES, Catalog
from shared.errors import Conflict, PluginImportError
from shared.jobs.bulk_delete import delete_rows
from shared.jobs.database import Database
from shared.jobs.locks import lock_name
from shared.jobs.mapping import to_json
from shared.jobs.records import Worker, WorkerMemory
from shared.jobs.states import State
from shared.jobs.tables import (
    catalogs,
    device_leases,
    drained_workers,
    jobs,
    service_heartbeats,
    workers,
)

log = structlog.get_logger()

MAX_CATALOGS_TRIED = 20  # catalogs tried, latest first; the first valid one is used
LIVE_WITHIN_S = 20.0  # seconds since the last heartbeat of a live worker
FORGET_AFTER_S = 3600.0  # seconds after which a worker's row is dropped


def publish_catalog(db: Database, catalog: Catalog) -> None:
    """Make this the catalog that the gateway validates with. The latest to be published counts.

    Raises:
        PluginImportError: see `Catalog.require_bounded`.
    """
    catalog.require_bounded()

    def upsert(connection: Connection) -> None:
        row = {"digest": catalog.digest, "body": to_json(catalog.to_json())}
        # later than all others, even if the clock was set back since they were published
        others = select(func.max(catalogs.c.published_at)).where(
            catalogs.c.digest != catalog.digest
        )
        latest = connection.execute(others).scalar_one()
        at = (
            db.now
            if latest is None
            else case((db.now > latest, db.now), else_=literal(latest + 1.0))
        )
        statement = db.insert(catalogs).values(**row, published_at=at)
        # workers that start together publish the same one
        connection.execute(
            statement.on_conflict_do_update(index_elements=["digest"], set_={"published_at": at})
        )

    db.run_transaction(upsert)


def get_catalog_digest(db: Database) -> str | None:
    """The digest of the current catalog."""
    with db.read() as connection:
        query = select(catalogs.c.digest).order_by(catalogs.c.published_at.desc()).limit(1)
        return connection.execute(query).scalar_one_or_none()


def load_latest_catalog(db: Database) -> tuple[str | None, Catalog]:
    """The current catalog and its digest; (None, empty) before any worker has started.

    What stands in the database is not trusted: a catalog that is none, or beyond the bounds that
    publishing one has, is named in the log and passed over for the one before it.
    """
    known = select(catalogs.c.digest, func.length(catalogs.c.body).label("size"))
    with db.read() as connection:
        for row in connection.execute(
            known.order_by(catalogs.c.published_at.desc()).limit(MAX_CATALOGS_TRIED)
        ).all():
            try:
                if row.size > MAX_BYTES:
                    raise ValueError(f"{row.size} characters")
                body = connection.execute(
                    select(catalogs.c.body).where(catalogs.c.digest == row.digest)
                ).scalar_one()
                return row.digest, Catalog.from_json(json.loads(body))
            except (ValueError, RecursionError, PluginImportError) as error:
                log.error("skipping an invalid catalog", digest=row.digest, error=str(error))
    return None, Catalog([])


def load_catalog(db: Database) -> Catalog:
    """The current catalog; empty before any worker has started."""
    return load_latest_catalog(db)[1]


def require_one_host(db: Database, host: str) -> None:
    """SQLite's locks hold on one host only.

    Raises:
        Conflict: the store is SQLite and a live worker runs on another host.
    """
    if db.dialect != "sqlite":
        return
    on_other_host = select(workers).where(workers.c.host != host, is_live(db))
    with db.read() as connection:
        other = connection.execute(on_other_host.limit(1)).one_or_none()
    if other is not None:
        raise Conflict(
            f"worker {other.id} runs on host {other.host}, but this is {host}, and SQLite works "
            "on one host only: set PALIMPSEST_DATABASE_URL to a PostgreSQL database"
        )


def register_worker(
    db: Database,
    worker: str,
    *,
    host: str,
    pid: int,
    stages: tuple[str, ...],
    device: str,
    threads: int,
    versions: dict[str, str],
    catalog: str,
) -> None:
    """Register a worker, or register it again after its pool child was replaced (its drain flag
    stays).

    A flag left by an earlier worker of this name is gone by then: the parent calls
    `unregister_worker` first. What an operator has drained is drained again.
    """

    def upsert(connection: Connection) -> None:
        lock_name(db, connection, f"worker {worker}")  # as who drains or undrains it does
        values: dict[str, Any] = {
            "host": host,
            "pid": pid,
            "stages": to_json(list(stages)),
            "device": device,
            "threads": threads,
            "versions": to_json(versions),
            "catalog": catalog,
        }
        updated = connection.execute(
            update(workers).where(workers.c.id == worker).values(**values, seen_at=db.now)
        )
        if not updated.rowcount:
            drained = exists().where(drained_workers.c.id == worker)
            connection.execute(
                insert(workers).values(
                    id=worker,
                    **values,
                    started_at=db.now,
                    seen_at=db.now,
                    drain=select(drained).scalar_subquery(),
                )
            )
        forget_workers(connection, workers.c.seen_at < db.now - FORGET_AFTER_S)

    db.run_transaction(upsert)


def forget_workers(connection: Connection, condition: ColumnElement[bool]) -> int:
    """Remove rows of workers; returns how many. A drain belongs to a name that is given: with a
    worker that is named after its process goes its mark too, as process ids come again, in
    containers with every start."""
    columns = (workers.c.id, workers.c.host, workers.c.pid)
    query = select(*columns).where(condition).order_by(workers.c.id)
    rows = connection.execute(query.with_for_update()).all()
    of_processes = [row.id for row in rows if row.id.endswith(f"@{row.host}-{row.pid}")]
    delete_rows(connection, drained_workers, drained_workers.c.id, of_processes)
    delete_rows(connection, device_leases, device_leases.c.worker, [row.id for row in rows])
    delete_rows(connection, workers, workers.c.id, [row.id for row in rows])
    return len(rows)


def record_heartbeat(
    db: Database,
    worker: str,
    *,
    memory_bytes: int | None = None,
    device_memory_bytes: int | None = None,
) -> bool | None:
    """Record that the worker is alive, and what memory it has; returns whether it should drain,
    None if it is not registered."""
    memory = WorkerMemory(memory_bytes, device_memory_bytes)
    return db.run_transaction(lambda connection: touch_worker(db, connection, worker, memory))


def touch_worker(
    db: Database, connection: Connection, worker: str, memory: WorkerMemory
) -> bool | None:
    """As `record_heartbeat`, in the caller's transaction."""
    query = (
        update(workers)
        .where(workers.c.id == worker)
        .values(
            seen_at=db.now,
            memory_bytes=memory.used_bytes,
            device_memory_bytes=memory.device_bytes,
        )
        .returning(workers.c.drain)
    )
    return connection.execute(query).scalar_one_or_none()


def record_service_heartbeat(db: Database, service: str) -> None:
    """Record that a service that is no worker, such as the reconciler, does its rounds."""
    statement = db.insert(service_heartbeats).values(service=service, seen_at=db.now)
    statement = statement.on_conflict_do_update(
        index_elements=["service"], set_={"seen_at": db.now}
    )
    db.run_transaction(lambda c: c.execute(statement))


def request_drain(db: Database, worker: str) -> bool:
    """Note that a worker shuts down: it is to give its job back and claim no other. False if it is
    not registered (yet)."""
    query = update(workers).where(workers.c.id == worker).values(drain=True, leaving=True)
    return bool(db.run_transaction(lambda c: c.execute(query).rowcount))


def unregister_worker(db: Database, worker: str) -> None:
    """Remove a worker that has shut down; also called at start, to drop the row of an earlier one
    of this name."""
    db.run_transaction(lambda c: forget_workers(c, workers.c.id == worker))


def list_workers(db: Database, tenant: str | None = None) -> list[Worker]:
    """Every worker seen within the hour, live ones first, with the job each one has; only jobs of
    that tenant, if one is given."""
    query = (
        select(workers, is_live(db).label("live"), drained_workers.c.drained_at)
        .outerjoin(drained_workers, drained_workers.c.id == workers.c.id)
        .order_by(workers.c.id)
    )
    # not joined: for each worker that would walk along all running jobs
    running = select(jobs.c.worker, jobs.c.id).where(jobs.c.state == State.RUNNING)
    if tenant is not None:
        running = running.where(jobs.c.tenant == tenant)
    with db.read() as connection:
        job_of = {row.worker: row.id for row in connection.execute(running)}
        records = [_build_worker(r, job_of.get(r.id)) for r in connection.execute(query)]
    return sorted(records, key=lambda w: not w.live)


def list_busy_workers(db: Database) -> frozenset[str]:
    """Names of the workers that run a job, as far as the job store knows. Raises TransientError."""
    query = select(jobs.c.worker).where(jobs.c.state == State.RUNNING)
    with db.read() as connection:
        return frozenset(filter(None, connection.execute(query).scalars()))


def is_live(db: Database) -> ColumnElement[bool]:
    """Seen lately. A time in the future is from before the clock was set back: such a worker would
    seem live until the clock is there again."""
    return workers.c.seen_at.between(db.now - LIVE_WITHIN_S, db.now + LIVE_WITHIN_S)


def count_live_by_stage(db: Database) -> dict[str, int]:
    """How many live workers serve each stage."""
    serving = select(workers.c.stages).where(is_live(db), ~workers.c.drain)
    counts: dict[str, int] = {}
    with db.read() as connection:
        for stages in connection.execute(serving).scalars():
            for stage in json.loads(stages):
                counts[stage] = counts.get(stage, 0) + 1
    return counts


def count_live_on_host(db: Database, host: str) -> int:
    """How many live workers there are on this host."""
    return sum(1 for worker in list_workers(db) if worker.live and worker.host == host)


def count_jobs_by_stage(db: Database, tenant: str | None = None) -> dict[str, dict[str, int]]:
    """How many jobs are in each state, by stage; of all tenants or one."""
    query = select(jobs.c.stage, jobs.c.state, func.count()).group_by(jobs.c.stage, jobs.c.state)
    if tenant is not None:
        query = query.where(jobs.c.tenant == tenant)
    counts: dict[str, dict[str, int]] = {}
    with db.read() as connection:
        for stage, state, n in connection.execute(query):
            counts.setdefault(stage, {})[state] = n
    return counts


def _build_worker(r: Row[Any], job: str | None) -> Worker:
    return Worker(
        id=r.id,
        host=r.host,
        pid=r.pid,
        stages=tuple(json.loads(r.stages)),
        device=r.device,
        threads=r.threads,
        versions=json.loads(r.versions),
        catalog=r.catalog,
        started_at=r.started_at,
        seen_at=r.seen_at,
        drain=r.drain,
        live=bool(r.live),
        job=job,
        drained_at=r.drained_at,
        memory_bytes=r.memory_bytes,
        device_memory_bytes=r.device_memory_bytes,
    )
