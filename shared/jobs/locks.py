"""Locks on names, for what is no row, or whose row may not be there yet."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from shared.jobs.database import Database


def lock_name(db: Database, connection: Connection, name: str) -> None:
    """Wait for the transactions that have taken this lock, and keep it to the end of this one."""
    if db.dialect == "postgresql":  # SQLite's writers take turns anyway
        key = func.hashtextextended(f"palimpsest {name}", 0)
        connection.execute(select(func.pg_advisory_xact_lock(key)))
