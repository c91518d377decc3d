"""Hidden costs of an audit, in sentences, before anything runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from shared import shadows
from shared.catalog import Catalog
from shared.forget_sets import list_forget_sets
from shared.jobs.records import PlannedJob
from shared.jobs.spec import AuditSpec
from shared.plugins import DatasetTraits
from shared.probes import describe_query_cost
from shared.roles import Role


def describe_costs(spec: AuditSpec, planned: Iterable[PlannedJob], catalog: Catalog) -> list[str]:
    """One sentence per distinct cost, in the order of the plan."""
    if spec.dataset is None:  # nothing is trained, and nothing asked
        return []
    data = catalog.get("dataset", spec.dataset.name, "dataset").get_traits(DatasetTraits)
    jobs = {job.request_key: job for job in planned}
    sentences = [
        describe_query_cost(job.params, data)
        for job in jobs.values()
        if job.stage == "probe" and "preset" in job.params
    ]
    retrained: dict[str, str] = {}
    for job in jobs.values():
        made_by = {i.role: jobs[i.parent] for i in job.inputs if i.parent}
        retraining = made_by.get(Role.RETRAINED)
        # models that were brought cost nothing here
        if retraining and Role.FORGET_SETS in made_by and "seeds" in retraining.params:
            retrained[retraining.request_key] = _describe_retraining_cost(
                retraining.params,
                made_by[Role.FORGET_SETS].params,
                made_by[Role.TRAINING_SET].params["size"],
            )
    sentences += retrained.values()
    for job in jobs.values():
        if job.stage == "shadow":
            sources = {i.role: jobs[i.parent] for i in job.inputs if i.parent}
            sentences.append(
                shadows.describe_retained_shadow_cost(job.params)
                if spec.is_brought
                else shadows.describe_shadow_cost(
                    job.params,
                    sources[Role.FORGET_SETS].params,
                    sources[Role.TRAINING_SET].params["size"],
                )
            )
    return [
        f"{sentence} ({n} times)" if n > 1 else sentence
        for sentence, n in Counter(sentences).items()
    ]


def _describe_retraining_cost(
    params: Mapping[str, Any], unlearn: Mapping[str, Any], training_size: int
) -> str:
    """One line on the work of a `retraining` job, given an `unlearn` job of the same forget sets."""
    listed, seeds = list_forget_sets(unlearn), params["seeds"]
    planned = len(listed[1]) if listed else unlearn["deletions"]
    deletions = min(planned, params["max_deletions"])
    return (
        f"retraining (check_forgetting): {deletions * seeds:,} trainings on at most "
        f"{training_size:,} samples, {seeds} for each of {deletions:,} deletions"
    )
