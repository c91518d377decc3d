"""Counts and tells what the outbox says has happened: each row once, in the transaction that
removes it.

Any number of reconcilers may do it at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, select

from shared.jobs import metric_totals
from shared.jobs.database import Database
from shared.jobs.metric_totals import Labels
from shared.jobs.outbox import Kind
from shared.jobs.tables import metric_totals as totals_table
from shared.jobs.tables import outbox
from shared.jobs.webhook_events import append_deliveries

ROWS_PER_TRANSACTION = 500
# Tenants that are counted by name: the first that something ended for. What the others have is
# summed, and as a tenant is never moved from one to the other, no counter ever falls.
MAX_NAMED_TENANTS = 50
OTHER_TENANTS = "other"


def process_outbox(db: Database, max_rows: int = 20 * ROWS_PER_TRANSACTION) -> int:
    """Count and tell what has happened, for `max_rows` rows at most; returns how many there
    were."""
    processed = 0
    while processed < max_rows:
        n = db.run_transaction(lambda c: _process_batch(db, c))
        processed += n
        if n < ROWS_PER_TRANSACTION:
            break
    return processed


def _process_batch(db: Database, connection: Connection) -> int:
    query = select(outbox).order_by(outbox.c.id).limit(ROWS_PER_TRANSACTION)
    rows = list(connection.execute(query.with_for_update(skip_locked=True)))
    if not rows:
        return 0
    connection.execute(delete(outbox).where(outbox.c.id.in_([row.id for row in rows])))
    metric_totals.add_to_totals(db, connection, _count_rows(connection, rows))
    append_deliveries(db, connection, rows)
    return len(rows)


def _count_rows(connection: Connection, rows: Sequence[Row[Any]]) -> Counter[tuple[str, Labels]]:
    amounts: Counter[Any] = Counter()
    tenants = _list_named_tenants(connection)
    for row in rows:
        if row.kind == Kind.JOB_ENDED:
            if row.tenant not in tenants and len(tenants) < MAX_NAMED_TENANTS:
                tenants.add(row.tenant)
            tenant = row.tenant if row.tenant in tenants else OTHER_TENANTS
            amounts["jobs_finished", (row.stage, row.state)] += 1
            amounts["tenant_jobs_finished", (tenant, row.state)] += 1
            if row.failure is not None:
                amounts["job_failures", (row.stage, row.failure)] += 1
            for name, seconds in (("job_wait", row.wait_s), ("job_run", row.run_s)):
                if seconds is not None:
                    seconds = max(0.0, seconds)  # the clock may have been set back meanwhile
                    bucket = metric_totals.find_bucket(seconds)
                    amounts[f"{name}_bucket", (row.stage, bucket)] += 1
                    amounts[f"{name}_sum", (row.stage,)] += seconds
        elif row.kind == Kind.ATTEMPT_LOST:
            amounts["attempts_lost", (row.stage,)] += 1
        elif row.kind == Kind.WRITE_REFUSED:
            amounts["writes_refused", (row.stage,)] += 1
    return amounts


def _list_named_tenants(connection: Connection) -> set[str]:
    totals = totals_table.c.name == "tenant_jobs_finished"
    query = select(totals_table.c.labels).where(totals)
    return {metric_totals.parse_labels(text)[0] for text in connection.execute(query).scalars()} - {
        OTHER_TENANTS
    }
