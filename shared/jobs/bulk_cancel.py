"""Cancelling all jobs that a filter selects, in slices, so that others can write in between.

What was cancelled stays so whenever the process dies, and what was not yet is as it was: the same
call again finishes it. Only jobs that were there when it began are selected, so it ends while others
submit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection
from dataclasses import dataclass, replace

from sqlalchemy import ColumnElement, Connection, func, select

from shared.failpoints import failpoint
from shared.jobs.control import cancel_locked
from shared.jobs.database import Database
from shared.jobs.filters import JobFilter
from shared.jobs.states import LIVE, State, Stop
from shared.jobs.tables import job_inputs, jobs
from shared.jobs.transitions import lock_job, transition_leaves

BATCH_SIZE = 500  # jobs that one transaction cancels
BUDGET_S = 10.0  # seconds after which one call stops and says how much is left


@dataclass(frozen=True)
class BulkCancel:
    """How far a call came.

    filters: as they were given, and bounded by the time of the last job that was there.
    cancelled: jobs that are cancelled.
    stopping: jobs that run, and were told to stop.
    remaining: jobs that are still to be cancelled: call it again with `filters`.
    stages: to wake.
    """

    filters: JobFilter
    cancelled: int
    stopping: int
    remaining: int
    stages: frozenset[str]


def count_cancellable(db: Database, tenant: str, filters: JobFilter) -> dict[str, int]:
    """How many jobs `cancel_jobs` would cancel, by state."""
    query = select(jobs.c.state, func.count()).where(*_build_selection(tenant, filters))
    with db.read() as connection:
        return {row[0]: row[1] for row in connection.execute(query.group_by(jobs.c.state))}


def bound_by_now(db: Database, tenant: str, filters: JobFilter) -> JobFilter:
    """The same filter without jobs that are submitted from now on. Jobs of one submission are
    microseconds apart, ahead of the clock: the bound is in whole milliseconds after the last."""
    if filters.created_before is not None:
        return filters
    with db.read() as connection:
        query = select(func.max(jobs.c.created_at)).where(jobs.c.tenant == tenant)
        latest = connection.execute(query).scalar_one() or 0.0
    return replace(filters, created_before=math.floor(latest * 1000 + 2) / 1000)


def cancel_jobs(
    db: Database, tenant: str, filters: JobFilter, budget_s: float = BUDGET_S
) -> BulkCancel:
    """Cancel the tenant's jobs that the filter selects and that have not ended, as `cancel_job`
    would each of them: what waits for one fails, unless it is selected too.

    Args:
        budget_s: seconds after which it begins no other slice.
    """
    filters = bound_by_now(db, tenant, filters)
    cancelled = stopping = 0
    stages: set[str] = set()
    deadline = time.monotonic() + budget_s
    while True:
        batch = db.run_transaction(lambda c: _cancel_batch(db, c, tenant, filters))
        if batch is None:
            return BulkCancel(filters, cancelled, stopping, 0, frozenset(stages))
        cancelled, stopping, stages = cancelled + batch[0], stopping + batch[1], stages | batch[2]
        failpoint("bulk_cancel.between_slices")
        if time.monotonic() > deadline:
            remaining = sum(count_cancellable(db, tenant, filters).values())
            return BulkCancel(filters, cancelled, stopping, remaining, frozenset(stages))


def _build_selection(tenant: str, filters: JobFilter) -> list[ColumnElement[bool]]:
    """What holds of the jobs that are to be cancelled."""
    not_told_to_stop = jobs.c.stop.is_distinct_from(Stop.CANCEL)
    return [*filters.build_conditions(tenant), jobs.c.state.in_(LIVE), not_told_to_stop]


def _cancel_batch(
    db: Database, connection: Connection, tenant: str, filters: JobFilter
) -> tuple[int, int, set[str]] | None:
    """Cancel some of the jobs, the newest first. A job is newer than its inputs, so one that is
    selected is cancelled rather than failed by its input. Returns how many were cancelled and how
    many told to stop, and the stages to wake; None if there is nothing left."""
    selection = _build_selection(tenant, filters)
    newest = (
        select(jobs.c.id).where(*selection).order_by(jobs.c.created_at.desc(), jobs.c.id.desc())
    )
    ids = list(connection.execute(newest.limit(BATCH_SIZE)).scalars())
    if not ids:
        return None
    # Lock first, then look: a worker that claims one holds its lock until it commits.
    locked = select(jobs.c.id).where(jobs.c.id.in_(ids)).order_by(jobs.c.id).with_for_update()
    ids = list(connection.execute(locked).scalars())
    rows = connection.execute(select(jobs).where(jobs.c.id.in_(ids), *selection)).all()
    running = [row for row in rows if row.state == State.RUNNING]
    for row in running:
        cancel_locked(db, connection, row)
    others = [row for row in rows if row.state != State.RUNNING]
    awaited = _find_awaited(connection, {row.id for row in others})
    unawaited = [row for row in others if row.id not in awaited]
    transition_leaves(db, connection, unawaited, State.CANCELLED, "asked")
    stages: set[str] = set()
    for job_id in awaited:
        # the end of another may have failed it meanwhile
        stages |= cancel_locked(db, connection, lock_job(connection, job_id))
    return len(others), len(running), stages


def _find_awaited(connection: Connection, ids: Collection[str]) -> list[str]:
    """Those of these jobs for which another one waits that is not one of them."""
    waiting = select(job_inputs.c.parent, job_inputs.c.job).join(
        jobs, jobs.c.id == job_inputs.c.job
    )
    query = waiting.where(job_inputs.c.parent.in_(list(ids)), jobs.c.state == State.WAITING)
    return sorted({parent for parent, job in connection.execute(query) if job not in ids})
