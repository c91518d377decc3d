"""How a number of a job's progress has changed, from its events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import func, select

from shared.jobs.database import Database
from shared.jobs.tables import events, jobs

MAX_EVENTS = 50_000  # that are looked through, the latest: a progress event every 3 s for two days


class ProgressPoint(NamedTuple):
    """A value after `step` steps."""

    step: float
    value: float


def list_progress(
    db: Database, tenant: str, job_id: str, name: str = "matching_loss", points: int = 200
) -> list[ProgressPoint]:
    """The curve of one number of a job's progress: at most so many points, evenly from its progress
    events, the last one among them; none for another tenant's job.

    What a lost attempt did after its last checkpoint is not in it: the next one did it again.
    """
    return list_curves(db, tenant, [job_id], name, points)[job_id]


def list_curves(
    db: Database,
    tenant: str,
    job_ids: Sequence[str],
    name: str = "matching_loss",
    points: int = 200,
) -> dict[str, list[ProgressPoint]]:
    """The same of several jobs, in one query.

    Args:
        job_ids: of some jobs, not of thousands.
    """
    its_job = events.c.job
    recent = (
        select(
            events.c.job,
            events.c.seq,
            events.c.data,
            func.row_number().over(partition_by=its_job, order_by=events.c.seq).label("n"),
            func.count().over(partition_by=its_job).label("total"),
        )
        .join(jobs, jobs.c.id == events.c.job)
        .where(
            jobs.c.id.in_(job_ids),
            jobs.c.tenant == tenant,
            events.c.kind == "progress",
            events.c.seq > jobs.c.event_seq - MAX_EVENTS,
        )
        .subquery()
    )
    thinned = (
        select(recent.c.job, recent.c.data)
        .where(
            (recent.c.n * points) // recent.c.total != ((recent.c.n - 1) * points) // recent.c.total
        )
        .order_by(recent.c.job, recent.c.seq)
    )
    progress: dict[str, list[Any]] = {one: [] for one in job_ids}
    with db.read() as connection:
        for job, data in connection.execute(thinned):
            progress[job].append(json.loads(data))
    return {job: _build_curve(values, name) for job, values in progress.items()}


def _build_curve(progress: Sequence[Any], name: str) -> list[ProgressPoint]:
    curve: list[ProgressPoint] = []
    for values in reversed(progress):
        step, value = values.get("done"), values.get(name)
        if not (_is_number(step) and _is_number(value)):
            continue
        if not curve or step < curve[-1].step:
            curve.append(ProgressPoint(float(step), float(value)))
    return curve[::-1]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
