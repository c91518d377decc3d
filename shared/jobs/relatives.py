"""The nearest relatives of a job: the jobs whose outputs it takes, and those that take its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, or_, select

from shared.jobs.database import Database
from shared.jobs.mapping import VALUES
from shared.jobs.records import Job
from shared.jobs.states import State
from shared.jobs.tables import job_inputs, jobs

MAX_GENERATIONS = 4  # from an evaluation over attack and defense to the unlearning
MAX_INPUTS_FOLLOWED = 16  # of one job: a report takes thousands


@dataclass(frozen=True)
class Relative:
    """A job, as far as a link to it needs it."""

    id: str
    stage: str
    method: str | None
    state: State


@dataclass(frozen=True)
class Relatives:
    """What is around a job.

    sources: the jobs whose outputs it takes, by id.
    users: jobs that take its outputs, or the same bytes; the oldest of them.
    user_count: how many there are.
    reusers: jobs that have taken over its result instead of running; the oldest of them.
    """

    sources: Mapping[str, Relative]
    users: tuple[Relative, ...]
    user_count: int
    reusers: tuple[Relative, ...]


def read_relatives(db: Database, tenant: str, job: Job, limit: int) -> Relatives:
    """The relatives of a job, at most `limit` of each kind. Another tenant's jobs are none."""
    parents = list(dict.fromkeys(i.parent for i in job.inputs if i.parent))[:limit]
    brief = select(jobs.c.id, jobs.c.stage, jobs.c.method, jobs.c.state)
    brief = brief.where(jobs.c.tenant == tenant)
    takes_it = or_(
        job_inputs.c.parent == job.id,
        job_inputs.c.sha256.in_([a.sha256 for a in job.artifacts]),
    )
    is_user = jobs.c.id.in_(select(job_inputs.c.job).where(takes_it))
    oldest = (jobs.c.created_at, jobs.c.id)
    with db.read() as connection:
        sources = connection.execute(brief.where(jobs.c.id.in_(parents)))
        by_id = {row.id: _build_relative(row) for row in sources}
        users = connection.execute(brief.where(is_user).order_by(*oldest).limit(limit)).all()
        counted = select(func.count()).where(jobs.c.tenant == tenant, is_user)
        n = connection.execute(counted).scalar_one()
        reused = brief.where(jobs.c.reused_from == job.id).order_by(*oldest).limit(limit)
        reusers = connection.execute(reused).all()
    return Relatives(
        by_id, tuple(map(_build_relative, users)), n, tuple(map(_build_relative, reusers))
    )


def find_methods_behind(
    db: Database, tenant: str, job_ids: Sequence[str]
) -> dict[str, tuple[tuple[str, str], ...]]:
    """By job, stage and method of the jobs that it is made of and that have a method, in the order in
    which they ran: they tell it from others of its own stage and method. Nothing of a job that is
    made of several methods of one stage, or of very many jobs.

    Args:
        job_ids: of some jobs, not of thousands.
    """
    # by job, each method with how many jobs away it is
    behind: dict[str, dict[tuple[str, str], int]] = {one: {} for one in job_ids}
    # by job that is looked at, those whose ancestor it is
    pending: dict[str, set[str]] = {one: {one} for one in job_ids}
    parents = jobs.alias("parents")
    query = (
        select(job_inputs.c.job, parents.c.id, parents.c.stage, parents.c.method)
        .join(parents, parents.c.id == job_inputs.c.parent)
        .where(parents.c.tenant == tenant)
    )
    with db.read() as connection:
        for distance in range(1, MAX_GENERATIONS + 1):
            its = job_inputs.c.job
            few = select(its).where(its.in_(list(pending)[:VALUES])).group_by(its)
            is_near = its.in_(few.having(func.count() <= MAX_INPUTS_FOLLOWED))
            reached: dict[str, set[str]] = {}
            for row in connection.execute(query.where(is_near)):
                reached.setdefault(row.id, set()).update(pending[row.job])
                for one in pending[row.job] if row.method is not None else ():
                    behind[one][row.stage, row.method] = distance
            pending = reached
    return {one: _order_methods(methods) for one, methods in behind.items()}


def _order_methods(distances: Mapping[tuple[str, str], int]) -> tuple[tuple[str, str], ...]:
    """The farthest first; none if two are of the same stage."""
    if len({stage for stage, _ in distances}) < len(distances):
        return ()
    return tuple(sorted(distances, key=lambda method: (-distances[method], method)))


def _build_relative(row: Any) -> Relative:
    return Relative(row.id, row.stage, row.method, State(row.state))
