"""Plans of small audits, with the plugins of tests."""

from __future__ import annotations

from typing import Any

from shared.jobs.plan import plan
from shared.jobs.records import PlannedJob
from shared.jobs.spec import AuditSpec
from tests.support.plugins import MINIMAL_AUDIT, make_catalog


def plan_audit(
    changes: dict[str, Any] | None = None, code: dict[str, str] | None = None
) -> list[PlannedJob]:
    """The jobs of the least audit, changed."""
    return plan(AuditSpec.model_validate({**MINIMAL_AUDIT, **(changes or {})}), make_catalog(code))


def collect_plan_keys(jobs: list[PlannedJob]) -> set[str]:
    """Request keys of all but the report, which is about one very audit."""
    return {j.request_key for j in jobs if j.stage != "report"}


def list_roles(job: PlannedJob) -> list[str]:
    """What a job is given."""
    return [i.role for i in job.inputs]
