"""What of an audit costs more than it looks, in sentences, before anything runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from shared import shadows
from shared.catalog import Catalog
from shared.jobs.records import PlannedJob
from shared.jobs.spec import AuditSpec
from shared.plugins import DatasetTraits
from shared.probes import quoted
from shared.roles import Role


def costs(spec: AuditSpec, planned: Iterable[PlannedJob], catalog: Catalog) -> list[str]:
    """One sentence a distinct cost, in the order of the plan."""
    data = catalog.get("dataset", spec.dataset.name, "dataset").as_a(DatasetTraits)
    jobs = {job.plan_key: job for job in planned}
    told = [quoted(job.params, data) for job in jobs.values() if job.stage == "probe" and "preset" in job.params]
    for job in jobs.values():
        if job.stage == "shadow":
            source = {i.role: jobs[i.parent] for i in job.inputs if i.parent}
            told.append(
                shadows.quoted(job.params, source[Role.FORGET_SETS].params, source[Role.TRAINING_SET].params["size"])
            )
    return [f"{sentence} ({n} times)" if n > 1 else sentence for sentence, n in Counter(told).items()]
