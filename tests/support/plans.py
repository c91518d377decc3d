"""Plans of small audits, with the plugins of tests."""

from __future__ import annotations

from typing import Any

from shared.jobs.plan import plan
from shared.jobs.records import PlannedJob
from shared.jobs.spec import AuditSpec
from tests.support.plugins import LEAST, catalog


def planned(change: dict[str, Any] | None = None, code: dict[str, str] | None = None) -> list[PlannedJob]:
    """The jobs of the least audit, changed."""
    return plan(AuditSpec.model_validate({**LEAST, **(change or {})}), catalog(code))


def work(jobs: list[PlannedJob]) -> set[str]:
    """Plan keys of all but the report, which is about one very audit."""
    return {j.plan_key for j in jobs if j.stage != "report"}


def roles(job: PlannedJob) -> list[str]:
    """What a job is given."""
    return [i.role for i in job.inputs]
