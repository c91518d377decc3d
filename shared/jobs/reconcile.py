"""What nobody is alive to do: put lost attempts back, and count what should be rung.

Any number of reconcilers may run: rows are taken with SKIP LOCKED.
"""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from shared.jobs.claims import charge
from shared.jobs.database import Database
from shared.jobs.states import State
from shared.jobs.tables import jobs


def expire_leases(db: Database, max_lost: int, limit: int = 100) -> list[str]:
    """Jobs whose lease ran out lose their attempt; returns their ids. At most `limit` in one transaction."""

    def work(connection: Connection) -> list[str]:
        gone = select(jobs).where(jobs.c.state == State.RUNNING, jobs.c.lease_until < db.now)
        rows = list(
            connection.execute(gone.order_by(jobs.c.lease_until).limit(limit).with_for_update(skip_locked=True))
        )
        for row in rows:
            charge(db, connection, row, f"worker {row.worker} stopped renewing its lease", max_lost)
        return [r.id for r in rows]

    return db.retrying(work)


def queued_by_stage(db: Database) -> dict[str, int]:
    """How many jobs are queued, by stage."""
    with db.read() as connection:
        query = select(jobs.c.stage, func.count()).where(jobs.c.state == State.QUEUED).group_by(jobs.c.stage)
        return {r[0]: r[1] for r in connection.execute(query)}
