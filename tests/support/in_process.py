"""Run planned jobs here, one after another, with the real stages: no queue, no store."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from shared.jobs.records import PlannedJob
from workers.context import Output
from workers.local import run_stage

Made = dict[str, dict[str, Output]]  # by plan key and role


def run_plan(jobs: Iterable[PlannedJob], without: Collection[str] = ()) -> Made:
    """What all jobs make. `without`: stages whose jobs come to nothing, as if they had failed."""
    made: Made = {}
    for job in jobs:
        if job.stage in without:
            continue
        inputs = {i.role: made[str(i.parent)][i.parent_role or i.role] for i in job.inputs if i.parent in made}
        made[job.plan_key] = run_stage(job.stage, inputs, job.method, seed=job.seed, **job.params)
    return made
