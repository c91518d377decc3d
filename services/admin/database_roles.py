"""`database-roles`: print the SQL that gives gateway, workers, reconciler and autoscaler roles of
their own on PostgreSQL. Run it as the role that migrates, after every migration."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterable

from sqlalchemy import Table
from sqlalchemy.engine import make_url

from services.admin._command import Subparsers, print_line
from shared.config import load_settings
from shared.errors import InvalidRequest
from shared.jobs.tables import (
    artifacts,
    audit_jobs,
    audits,
    catalogs,
    declarations,
    declared_uploads,
    deleted_artifacts,
    device_leases,
    drained_workers,
    events,
    job_artifacts,
    job_inputs,
    jobs,
    metadata,
    outbox,
    paused_stages,
    plugin_sets,
    previews,
    service_heartbeats,
    workers,
)

# What an attempt reads and writes. A table that is not named here is not a worker's: keys, tenants,
# the access log, and what only the gateway answers with.
WORKER_TABLES = (
    artifacts, audit_jobs, audits, catalogs, declarations, declared_uploads, deleted_artifacts,
    device_leases, events, drained_workers, job_artifacts, job_inputs, jobs, outbox, paused_stages,
    plugin_sets, previews, workers,
)  # fmt: skip
# The reconciler removes what has expired, but lets nobody in.
GATEWAY_ONLY = {"keys", "server_secrets"}
DML = "SELECT, INSERT, UPDATE, DELETE"
NAME = re.compile(r"[a-z_][a-z0-9_]{0,40}")


def add_parser(commands: Subparsers) -> None:
    parser = commands.add_parser("database-roles", help=__doc__.partition(": ")[2])
    parser.add_argument(
        "--prefix", default="palimpsest", help="prefix of the roles' names (default: %(default)s)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    url = make_url(load_settings().database_url)
    if url.get_backend_name() != "postgresql":
        raise InvalidRequest(
            "only PostgreSQL has roles: set PALIMPSEST_DATABASE_URL to the URL of the role that migrates",
            "PALIMPSEST_DATABASE_URL",
        )
    if not NAME.fullmatch(options.prefix):
        raise InvalidRequest("use only lower-case letters, digits and _", "--prefix")
    print_line(
        build_sql(
            str(url.database or url.username),
            str(url.username or os.environ.get("PGUSER", "postgres")),
            options.prefix,
        )
    )
    return 0


def build_sql(database: str, owner: str, prefix: str) -> str:
    """The statements, which may be run again.

    Args:
        owner: the role that migrates, to which all tables belong.
        prefix: of the names of the four roles.
    """
    names = ("gateway", "worker", "reconciler", "scaler")
    gateway, worker, reconciler, scaler = roles = [f"{prefix}_{name}" for name in names]
    all_roles = ", ".join(roles)
    tables = metadata.sorted_tables
    lines = [
        "-- Run with psql as the role that migrates; then give each role a password: \\password ROLE",
    ]
    for role in roles:
        lines.append(
            f"DO $$ BEGIN CREATE ROLE {role} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;"
        )
    lines += [
        f"REVOKE ALL ON DATABASE {_quote(database)} FROM PUBLIC;",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC;",
        f"GRANT CONNECT ON DATABASE {_quote(database)} TO {all_roles};",
        f"GRANT USAGE ON SCHEMA public TO {all_roles};",
        f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {all_roles};",
        f"GRANT SELECT ON alembic_version TO {all_roles};",
        "-- gateway: all rows, no schema",
        _grant(tables, gateway),
        "-- worker: jobs and artifacts; no keys, no log, of tenants only how many jobs may run",
        _grant(WORKER_TABLES, worker),
        f"GRANT SELECT (name, max_running_jobs) ON tenants TO {worker};",
        "-- reconciler: all rows but keys",
        _grant([t for t in tables if t.name not in GATEWAY_ONLY], reconciler),
        "-- scaler (KEDA and pod_costs): how many jobs there are, and which workers run one",
        f"GRANT SELECT (stage, state, worker) ON jobs TO {scaler};",
        f"GRANT SELECT (stage) ON paused_stages TO {scaler};",
        f"GRANT SELECT, INSERT, UPDATE ON {service_heartbeats.name} TO {scaler};",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {gateway}, {worker}, {reconciler};",
        "-- To rewrite tables after a deletion with everything derived (VACUUM FULL), the reconciler must",
        "-- own them, and see how old the transactions of others are. As a member of the owner it may also",
        "-- do whatever the owner may. Without these two lines such deletions leave traces in the files of",
        "-- the database.",
        f"GRANT {_quote(owner)} TO {reconciler};",
        f"GRANT pg_read_all_stats TO {reconciler};",
    ]
    return "\n".join(lines)


def _grant(tables: Iterable[Table], role: str) -> str:
    return f"GRANT {DML} ON {', '.join(sorted(table.name for table in tables))} TO {role};"


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
