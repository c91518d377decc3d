"""What of an audit costs more than it looks, in sentences, before anything runs."""

from __future__ import annotations

from collections.abc import Iterable

from shared.catalog import Catalog
from shared.jobs.records import PlannedJob
from shared.jobs.spec import AuditSpec
from shared.probes import quoted


def costs(spec: AuditSpec, planned: Iterable[PlannedJob], catalog: Catalog) -> list[str]:
    """One sentence a distinct cost, in the order of the plan."""
    shape = catalog.get("dataset", spec.dataset.name, "dataset").traits
    told = [quoted(job.params, shape) for job in planned if job.stage == "probe" and "preset" in job.params]
    return list(dict.fromkeys(told))
