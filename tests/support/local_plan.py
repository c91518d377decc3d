"""Run planned jobs in this process, one after another, with the real stages, without queue or
store."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

from shared.jobs.records import PlannedJob
from workers.context import StageOutput
from workers.local import run_stage

PlanOutputs = dict[str, dict[str, StageOutput]]  # by request key and role


def run_planned(
    jobs: Iterable[PlannedJob],
    skipped_stages: Collection[str] = (),
    uploads: Mapping[str, bytes] = MappingProxyType({}),
) -> PlanOutputs:
    """The outputs of all jobs.

    Args:
        skipped_stages: whose jobs are skipped, as if they had failed.
        uploads: by sha256.
    """
    outputs: PlanOutputs = {}
    for job in jobs:
        if job.stage in skipped_stages:
            continue
        inputs = {
            i.role: outputs[str(i.parent)][i.parent_role or i.role]
            for i in job.inputs
            if i.parent in outputs
        } | {i.role: StageOutput(uploads[i.sha256]) for i in job.inputs if i.sha256}
        outputs[job.request_key] = run_stage(
            job.stage, inputs, job.method, seed=job.seed, **job.params
        )
    return outputs
