"""Roles on a real PostgreSQL: each process can do its work, and a worker nothing else."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ProgrammingError

from services import admin
from services.admin.database_roles import WORKER_TABLES, build_sql
from shared.jobs import worker_registry
from shared.jobs.database import Database
from shared.jobs.migrations import migrate, require_current_schema
from shared.jobs.tables import metadata
from tests.support.keys import make_key
from tests.support.kustomize import list_scaled_objects
from tests.support.servers import create_database
from tests.support.sleep_jobs import make_params
from tests.support.system import TENANT, TOKEN, System

pytestmark = pytest.mark.slow
HIDDEN = sorted({table.name for table in metadata.sorted_tables} - {t.name for t in WORKER_TABLES})


def may(url: str, statement: str) -> bool:
    """Whether this role may run it; it is rolled back."""
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)
            connection.rollback()
    except ProgrammingError as error:
        if getattr(error.orig, "sqlstate", "") != "42501":  # insufficient_privilege
            raise
        return False
    finally:
        engine.dispose()
    return True


def test_a_worker_runs_jobs_and_can_do_nothing_else(
    make_system: Callable[..., System],
    sleep_tree: Path,
    postgres_server: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = create_database(postgres_server)
    system = make_system(sleep_tree, url)
    prefix = f"p{secrets.token_hex(4)}"  # roles belong to the server, which other tests use too
    monkeypatch.setenv("PALIMPSEST_DATABASE_URL", url)
    capsys.readouterr()
    assert admin.main(["database-roles", "--prefix", prefix]) == 0
    script = capsys.readouterr().out
    for _ in range(2):  # it can be run again
        with system.db.connect_outside_transaction() as raw:
            raw.execute(script)
    urls = {
        role: make_url(url).set(username=f"{prefix}_{role}").render_as_string(hide_password=False)
        for role in ("gateway", "worker", "reconciler")
    }
    key = make_key(system.db, TENANT)

    address = system.start_gateway(PALIMPSEST_DATABASE_URL=urls["gateway"])
    system.start(
        "reconciler", "-m", "services.reconciler", PALIMPSEST_DATABASE_URL=urls["reconciler"]
    )
    system.start_worker("sleep", PALIMPSEST_DATABASE_URL=urls["worker"])
    done = system.wait(system.submit("sleep", make_params(system, "roles")))
    assert done.state == "succeeded", (done, system.read_log("worker-sleep"))
    with httpx.Client(base_url=address, trust_env=False, timeout=60) as client:
        for secret in (key, TOKEN):
            headers = {"Authorization": f"Bearer {secret}"}
            assert client.get(f"/v1/jobs/{done.id}", headers=headers).status_code == 200
        made = client.post("/v1/keys", json={"tenant": TENANT}, headers=headers)
        assert made.status_code == 201, made.text

    for role in ("worker", "gateway"):
        for statement in (
            "CREATE TABLE mine (n integer)",
            "CREATE TEMPORARY TABLE mine (n integer)",
            "ALTER TABLE jobs ADD COLUMN mine integer",
            "DROP TABLE jobs",
            "TRUNCATE jobs",
            "CREATE INDEX mine ON jobs (id)",
            "CREATE SCHEMA mine",
            "UPDATE alembic_version SET version_num = '0'",
        ):
            assert not may(urls[role], statement), (role, statement)
    assert {"keys", "tenants", "server_secrets", "access_log", "idempotency"} <= set(HIDDEN)
    for table in HIDDEN:
        for statement in (f"SELECT * FROM {table}", f"DELETE FROM {table} WHERE false"):
            assert not may(urls["worker"], statement), statement
            assert may(urls["gateway"], statement), statement
    assert not may(urls["worker"], "SELECT rolname FROM pg_authid")
    assert may(urls["worker"], "SELECT id FROM jobs FOR UPDATE")
    assert may(urls["reconciler"], "DELETE FROM access_log")


def test_libpq_knows_who_connects_where_the_url_does_not(
    postgres_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Kubernetes, where all pods have one URL."""
    url = create_database(postgres_server)
    migrate(owner := Database(url))
    prefix = f"p{secrets.token_hex(4)}"
    with owner.connect_outside_transaction() as raw:
        raw.execute(build_sql(str(make_url(url).database), "postgres", prefix))
    owner.close()
    monkeypatch.setenv("PGUSER", f"{prefix}_worker")
    nameless = URL.create(
        "postgresql+psycopg", database=make_url(url).database, query=make_url(url).query
    )
    db = Database(nameless.render_as_string())
    with db.read() as connection:
        assert connection.execute(text("SELECT current_user")).scalar_one() == f"{prefix}_worker"
    db.close()


def test_the_autoscaler_can_count_jobs_and_see_nothing_of_them(postgres_server: str) -> None:
    url = create_database(postgres_server)
    db = Database(url)
    migrate(db)
    prefix = f"p{secrets.token_hex(4)}"
    owner = make_url(url)
    with db.connect_outside_transaction() as raw:
        raw.execute(build_sql(str(owner.database), str(owner.username or "postgres"), prefix))
    db.close()
    scaler = owner.set(username=f"{prefix}_scaler").render_as_string(hide_password=False)
    for manifest in list_scaled_objects("overlays/keda-gpu").values():
        assert may(scaler, manifest["spec"]["triggers"][0]["metadata"]["query"])
    # what the controller of deletion costs does
    as_scaler = Database(scaler)
    require_current_schema(as_scaler)
    assert worker_registry.list_busy_workers(as_scaler) == frozenset()
    worker_registry.record_service_heartbeat(as_scaler, "pod-costs")
    as_scaler.close()
    for statement in (
        "SELECT * FROM jobs", "SELECT tenant FROM jobs", "SELECT params FROM jobs",
        "UPDATE jobs SET state = 'queued'", "DELETE FROM jobs", "SELECT * FROM keys",
        "SELECT sha256 FROM artifacts", "DELETE FROM service_heartbeats", "CREATE TABLE mine (n integer)",
    ):  # fmt: skip
        assert not may(scaler, statement), statement
