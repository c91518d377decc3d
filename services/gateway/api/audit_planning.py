"""From an audit's body to its jobs: what POST /v1/audits, its dry run and the console's form do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.gateway.api._declaring import resolve_names as resolve_names
from services.gateway.api._dry_run import MAX_WORKERS as MAX_WORKERS
from services.gateway.api._dry_run import describe_dry_run
from services.gateway.audit_body import AuditBody as AuditBody
from services.gateway.audit_body import describe_submission as describe_submission
from services.gateway.deps import current_gateway, digest_files
from services.gateway.submission import find_request_replay, store_planned
from shared.jobs.audit_annotations import require_small_metadata
from shared.jobs.costs import describe_costs
from shared.jobs.plan import plan_resolved, resolve_posted
from shared.jobs.records import PlannedJob, SubmitResult
from shared.jobs.retention import plan_retention
from shared.jobs.spec import AuditSpec
from shared.jobs.submit import AuditRequest, IdempotencyKey


@dataclass(frozen=True)
class AuditPlan:
    """An audit without declared names, its jobs, and notes on costs that are easily overlooked."""

    body: AuditBody
    spec: AuditSpec
    jobs: Sequence[PlannedJob]
    costs: Sequence[str]

    def describe_dry_run(self, workers: int | None = None) -> Mapping[str, Any]:
        """Which of the jobs exist and what the others will cost, as `DryRun` describes it.

        Args:
            workers: also estimate the time with this many workers of each kind.

        Raises:
            TransientError: too many other requests are being planned.
        """
        with current_gateway().planning_limiter.acquire():  # of 10,000 jobs it takes seconds
            return describe_dry_run(self.jobs, self.costs, workers)


def plan_audit(body: AuditBody, *, require_uploads: bool) -> AuditPlan:
    """All jobs of an audit; nothing is stored.

    Args:
        require_uploads: refuse uploads that are not there; a dry run comes before they are sent.

    Raises:
        InvalidRequest: the first thing that is wrong, by its path in the audit.
        Conflict: a declaration that it names is not checked yet.
        TransientError: too many other requests are being planned.
    """
    planning = current_gateway().planning_limiter
    catalog = current_gateway().catalog_cache.catalog
    require_small_metadata(body.metadata)
    spec = resolve_names(body.to_spec())
    with planning.acquire():
        resolved = resolve_posted(spec, catalog)
    # while others plan
    data = digest_files(resolved.files, require_uploads=require_uploads)
    with planning.acquire():
        jobs = plan_resolved(resolved, data, plan_retention(current_gateway().deps.settings))
        return AuditPlan(body, spec, jobs, describe_costs(spec, jobs, catalog))


def submit_audit(body: AuditBody, key: IdempotencyKey | None) -> SubmitResult:
    """Plan an audit and store it, once per key.

    Raises:
        InvalidRequest, Conflict, TransientError: as `plan_audit`.
        QuotaReached: the tenant has as many jobs as it may.
    """
    submitted = find_request_replay(key)
    if submitted is not None:
        return submitted
    plan = plan_audit(body, require_uploads=True)
    spec = plan.spec
    audit = AuditRequest(spec.name, spec.model_dump(mode="json"), body.labels, body.metadata)
    return store_planned(
        [*plan.jobs], key, audit=audit, priority=spec.priority, time_limit=spec.time_limit
    )
