"""Hidden costs of an audit, in sentences, before anything runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from shared import shadows
from shared.catalog import Catalog
from shared.jobs.records import PlannedJob
from shared.jobs.spec import AuditSpec
from shared.plugins import DatasetTraits
from shared.probes import describe_query_cost
from shared.roles import Role


def describe_costs(spec: AuditSpec, planned: Iterable[PlannedJob], catalog: Catalog) -> list[str]:
    """One sentence per distinct cost, in the order of the plan."""
    data = catalog.get("dataset", spec.dataset.name, "dataset").get_traits(DatasetTraits)
    jobs = {job.request_key: job for job in planned}
    sentences = [
        describe_query_cost(job.params, data)
        for job in jobs.values()
        if job.stage == "probe" and "preset" in job.params
    ]
    for job in jobs.values():
        if job.stage == "shadow":
            sources = {i.role: jobs[i.parent] for i in job.inputs if i.parent}
            sentences.append(
                shadows.describe_shadow_cost(
                    job.params,
                    sources[Role.FORGET_SETS].params,
                    sources[Role.TRAINING_SET].params["size"],
                )
            )
    return [
        f"{sentence} ({n} times)" if n > 1 else sentence
        for sentence, n in Counter(sentences).items()
    ]
