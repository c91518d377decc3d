"""Takes what was deleted out of the database's own files as well.

SQLite overwrites what it deletes (`secure_delete`), but a page that was rebuilt keeps copies of rows
that moved to another page, and the write-ahead log keeps older pages: the file is rewritten and the
log truncated. PostgreSQL's VACUUM frees the place of a deleted row without overwriting it, and
statistics hold samples of it: the tables and the statistics are written as new files.
"""

from __future__ import annotations

import time
from typing import Any

from shared.jobs.database import LOCK_TIMEOUT_S, Database
from shared.jobs.tables import (
    catalogs,
    device_leases,
    drained_workers,
    metadata,
    paused_stages,
    plugin_sets,
    service_heartbeats,
    workers,
)

_NAMELESS = (
    workers, device_leases, drained_workers, paused_stages, catalogs, plugin_sets,
    service_heartbeats,
)  # fmt: skip
# those that can name an upload, what was made of it or a tenant; the ones that all need come last
TABLES = tuple(table for table in reversed(metadata.sorted_tables) if table not in _NAMELESS)

_LOCK_SQL = "SELECT pg_try_advisory_lock(hashtextextended('palimpsest scrub', 0))"
# deleted rows are still needed by transactions that began before
_OLDER_SQL = """SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start < %s
        AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)"""


def scrub(db: Database, wait_s: float) -> bool:
    """Rewrite what the database keeps of deleted rows; whether all of it could be done.

    Nobody can write meanwhile, and on PostgreSQL nobody can read the table that is being rewritten:
    about a second for 100 MB.

    Args:
        wait_s: seconds to wait for others' transactions, at most; for each table on PostgreSQL.

    Raises:
        TransientError: the database is unavailable.
    """
    with db.connect_outside_transaction() as raw:
        try:
            return (
                _scrub_sqlite(raw, wait_s)
                if db.dialect == "sqlite"
                else _scrub_postgresql(raw, wait_s)
            )
        except db.driver_error:
            return False  # a lock was not to be had


def _scrub_sqlite(raw: Any, wait_s: float) -> bool:
    raw.execute(f"PRAGMA busy_timeout={int(wait_s * 1000)}")
    try:
        if not _truncate_log(raw):
            return False  # before the file is rewritten in vain
        raw.execute("VACUUM")
        return _truncate_log(raw)
    finally:
        raw.execute(f"PRAGMA busy_timeout={LOCK_TIMEOUT_S * 1000}")


def _truncate_log(raw: Any) -> bool:
    """Bring all of the write-ahead log into the file and cut it off; not possible while a reader
    needs it."""
    busy, _, _ = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


def _scrub_postgresql(raw: Any, wait_s: float) -> bool:
    raw.execute("SET statement_timeout = 0")
    # who waits for a table makes all others wait behind it
    raw.execute(f"SET lock_timeout = {max(1, int(wait_s * 1000))}")
    (is_ours,) = raw.execute(_LOCK_SQL).fetchone()
    if not is_ours or not _wait_for_older_transactions(raw, wait_s):
        return False
    for table in TABLES:
        raw.execute(f"VACUUM (FULL, ANALYZE) {table.name}")
    # skipped, with a warning, for a role that may not
    raw.execute("VACUUM (FULL) pg_statistic")
    return True


def _wait_for_older_transactions(raw: Any, wait_s: float) -> bool:
    deadline = time.monotonic() + wait_s
    (now,) = raw.execute("SELECT clock_timestamp()").fetchone()
    while raw.execute(_OLDER_SQL, (now,)).fetchone()[0]:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
