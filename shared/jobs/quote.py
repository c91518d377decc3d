"""What an audit will cost before it is submitted, from what past jobs took."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from shared.jobs import worker_registry
from shared.jobs.cost_history import (
    Basis,
    CostKind,
    PastCosts,
    describe_machine,
    find_parent_cost_keys,
    find_past_costs,
)
from shared.jobs.cost_keys import compute_cost_keys
from shared.jobs.database import Database
from shared.jobs.records import PlannedJob, Worker
from shared.jobs.schedule import estimate_wall_s
from shared.jobs.states import State

_BASES = list(Basis)


@dataclass(frozen=True)
class StageQuote:
    """What the jobs of one stage and method will cost.

    Everything but the counts is about new jobs with history, and None without any.

    jobs, reused, new: how many there are; `new` = `jobs` - `reused`.
    unknown: new jobs without any history.
    seconds: per job, the mean of the medians of past jobs; `seconds_low` and `seconds_high` are the
        least and the most that any of these took.
    cpu_seconds: of all new jobs together.
    memory_bytes, device_memory_bytes: peak of one job.
    basis: how like them the past jobs are, by the least like.
    past_jobs: how many there are, of the job that has the fewest.
    workers: live workers that serve the stage.
    """

    stage: str
    method: str | None
    jobs: int
    reused: int
    new: int
    unknown: int
    seconds: float | None
    seconds_low: float | None
    seconds_high: float | None
    cpu_seconds: float | None
    memory_bytes: int | None
    device_memory_bytes: int | None
    basis: Basis | None
    past_jobs: int
    workers: int


@dataclass(frozen=True)
class Quote:
    """What an audit will cost; figures leave out jobs without history.

    wall_seconds: with the workers that are live now, if nothing else runs; None if a stage has no
        worker.
    workers: as asked for: how many of each kind of worker.
    wall_seconds_with_workers: with so many; None if it was not asked.
    """

    stages: tuple[StageQuote, ...]
    cpu_seconds: float
    memory_bytes: int | None
    device_memory_bytes: int | None
    unknown: int
    wall_seconds: float | None
    workers: int | None
    wall_seconds_with_workers: float | None
    machines: tuple[str, ...]
    unserved_stages: tuple[str, ...]


def quote_jobs(
    db: Database,
    tenant: str,
    planned: Sequence[PlannedJob],
    existing: Mapping[str, tuple[str, str]],
    *,
    workers: int | None = None,
) -> Quote:
    """Estimate what planned jobs cost; nothing is stored.

    Args:
        planned: parents before children.
        existing: by request key, id and state of the equal job that will be reused.
        workers: how many of each kind of worker to estimate the time for as well.
    """
    seen = worker_registry.list_workers(db)
    live = [w for w in seen if w.live and not w.drain]
    groups = _count_groups(live)
    keys = compute_cost_keys(planned, find_parent_cost_keys(db, tenant, planned))
    # one that runs already takes its time, though none that this audit adds
    unfinished = [
        job for job in planned if existing.get(job.request_key, ("", ""))[1] != State.SUCCEEDED
    ]
    kinds = {
        job.request_key: CostKind(*keys[job.request_key], job.stage, job.method)
        for job in unfinished
    }
    past = find_past_costs(db, tenant, kinds.values(), _list_machines(live or seen, unfinished))
    by_job = {key: past[kind] for key, kind in kinds.items() if kind in past}
    seconds = {
        job.request_key: median(c.run_s for c in by_job[job.request_key].costs)
        if job.request_key in by_job
        else 0.0
        for job in unfinished
    }
    rows: dict[tuple[str, str | None], list[PlannedJob]] = {}
    for job in planned:
        rows.setdefault((job.stage, job.method), []).append(job)
    stages = tuple(_quote_stage(jobs, existing, by_job, groups) for jobs in rows.values())
    needed = {job.stage for job in unfinished}
    return Quote(
        stages=stages,
        cpu_seconds=sum(row.cpu_seconds or 0.0 for row in stages),
        memory_bytes=_get_max(row.memory_bytes for row in stages),
        device_memory_bytes=_get_max(row.device_memory_bytes for row in stages),
        unknown=sum(row.unknown for row in stages),
        wall_seconds=estimate_wall_s(planned, seconds, groups),
        workers=workers,
        wall_seconds_with_workers=None
        if workers is None
        else estimate_wall_s(
            planned, seconds, dict.fromkeys(groups or [frozenset(needed)], workers)
        ),
        machines=tuple(sorted({_describe(w) for w in live or seen})),
        unserved_stages=tuple(sorted(needed - frozenset().union(*groups))),
    )


def _quote_stage(
    jobs: Sequence[PlannedJob],
    existing: Mapping[str, tuple[str, str]],
    by_job: Mapping[str, PastCosts],
    groups: Mapping[frozenset[str], int],
) -> StageQuote:
    new = [job.request_key for job in jobs if job.request_key not in existing]
    past = [by_job[key] for key in new if key in by_job]
    costs = {cost for one in past for cost in one.costs}
    return StageQuote(
        stage=jobs[0].stage,
        method=jobs[0].method,
        jobs=len(jobs),
        reused=len(jobs) - len(new),
        new=len(new),
        unknown=len(new) - len(past),
        seconds=sum(median(c.run_s for c in one.costs) for one in past) / len(past)
        if past
        else None,
        seconds_low=min((c.run_s for c in costs), default=None),
        seconds_high=max((c.run_s for c in costs), default=None),
        cpu_seconds=sum(median(c.cpu_s for c in one.costs) for one in past) if past else None,
        memory_bytes=_get_max(c.memory_bytes for c in costs),
        device_memory_bytes=_get_max(c.device_memory_bytes for c in costs),
        basis=max((one.basis for one in past), key=_BASES.index, default=None),
        past_jobs=min((len(one.costs) for one in past), default=0),
        workers=sum(n for stages, n in groups.items() if jobs[0].stage in stages),
    )


def _count_groups(live: Iterable[Worker]) -> dict[frozenset[str], int]:
    """How many workers serve each set of stages."""
    groups: dict[frozenset[str], int] = {}
    for worker in live:
        stages = frozenset(worker.stages)
        groups[stages] = groups.get(stages, 0) + 1
    return groups


def _list_machines(
    workers: Sequence[Worker], jobs: Iterable[PlannedJob]
) -> dict[str, tuple[str, ...]]:
    """By stage, the kinds of machine of the workers that serve it; of all workers where none
    does."""
    every = tuple(sorted({_describe(w) for w in workers}))
    return {
        stage: tuple(sorted({_describe(w) for w in workers if stage in w.stages})) or every
        for stage in {job.stage for job in jobs}
    }


def _describe(worker: Worker) -> str:
    return describe_machine(worker.device, worker.threads)


def _get_max(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)
