"""The job store as one tenant sees it.

Each function that reads or changes what a tenant has takes the tenant as its second argument, and
is bound here to one: `store.get_job(job_id)` is `queries.get_job(db, tenant, job_id)`. Who holds a
`TenantStore` has no way to ask for anybody else's things, nor to forget whose they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Concatenate, ParamSpec, TypeVar

from shared.jobs import (
    artifact_room,
    audit_annotations,
    audit_deletion,
    audit_graph,
    audit_retry,
    bulk_cancel,
    control,
    declarations,
    erasure,
    inheritance,
    lineage,
    previews,
    priority,
    progress_curve,
    queries,
    quote,
    relatives,
    repair,
    submit,
    uploads,
    webhooks,
)
from shared.jobs.database import Database

P = ParamSpec("P")
T = TypeVar("T")


def _bind(
    function: Callable[Concatenate[Database, str, P], T],
) -> Callable[Concatenate[TenantStore, P], T]:
    """The function of a store and a tenant, as a method."""

    def call(self: TenantStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return function(self._db, self.tenant, *args, **kwargs)

    call.__name__, call.__doc__ = function.__name__, function.__doc__
    call.__wrapped__ = function  # type: ignore[attr-defined]  # as functools.wraps has it
    return call


def _bind_new(
    function: Callable[Concatenate[Database, str, P], T],
) -> Callable[Concatenate[TenantStore, P], T]:
    """As `_bind`, of a function that stores something new in the tenant's name."""

    def call(self: TenantStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        kwargs["is_registered"] = self._is_registered
        return function(self._db, self.tenant, *args, **kwargs)

    call.__name__, call.__doc__ = function.__name__, function.__doc__
    call.__wrapped__ = function  # type: ignore[attr-defined]  # as functools.wraps has it
    return call


@dataclass(frozen=True)
class TenantStore:
    """The job store, bound to one tenant.

    A job, audit or artifact of another tenant is `NotFound`, like one that does not exist.

    _is_registered: the tenant is one of the table `tenants`, as every tenant with keys is: once it
        is disabled or gone, nothing new is stored for it (`shared.jobs.tenants.require_enabled`),
        however long ago the request began that wants it.
    """

    _db: Database = field(repr=False)
    tenant: str
    _is_registered: bool = False

    get_job = _bind(queries.get_job)
    list_jobs = _bind(queries.list_jobs)
    list_events = _bind(queries.list_events)
    list_last_events = _bind(queries.list_last_events)
    read_relatives = _bind(relatives.read_relatives)
    find_methods_behind = _bind(relatives.find_methods_behind)
    get_audit = _bind(queries.get_audit)
    list_audits = _bind(queries.list_audits)
    find_audit_names = _bind(queries.find_audit_names)
    count_audit_jobs_by_stage = _bind(queries.count_audit_jobs_by_stage)
    read_audit_graph = _bind(audit_graph.read_audit_graph)
    read_audit_failures = _bind(audit_graph.read_audit_failures)
    get_artifact = _bind(queries.get_artifact)
    get_preview = _bind(previews.get_preview)
    list_previews = _bind(previews.list_previews)
    list_progress = _bind(progress_curve.list_progress)
    find_artifacts = _bind(queries.find_artifacts)
    list_curves = _bind(progress_curve.list_curves)
    find_live_duplicates = _bind(queries.find_live_duplicates)

    find_inputs = _bind(lineage.find_inputs)
    data_behind = _bind(inheritance.data_behind)
    quote_jobs = _bind(quote.quote_jobs)
    find_replay = _bind(submit.find_replay)
    submit_jobs = _bind_new(submit.submit_jobs)

    cancel_job = _bind(control.cancel_job)
    retry_job = _bind(control.retry_job)
    pause_job = _bind(control.pause_job)
    resume_job = _bind(control.resume_job)
    cancel_audit = _bind(control.cancel_audit)
    estimate_deletion = _bind(audit_deletion.estimate_deletion)
    delete_audit = _bind(audit_deletion.delete_audit)
    retry_audit = _bind(audit_retry.retry_audit)
    annotate_audit = _bind(audit_annotations.annotate_audit)
    set_job_priority = _bind(priority.set_job_priority)
    set_audit_priority = _bind(priority.set_audit_priority)
    bound_by_now = _bind(bulk_cancel.bound_by_now)
    count_cancellable = _bind(bulk_cancel.count_cancellable)
    cancel_jobs = _bind(bulk_cancel.cancel_jobs)

    has_artifact = _bind(uploads.has_artifact)
    check_room = _bind(artifact_room.check_room)
    measure_uploads = _bind(uploads.measure_uploads)
    record_upload = _bind_new(uploads.record_upload)
    list_uploads = _bind(uploads.list_uploads)
    get_upload = _bind(uploads.get_upload)
    delete_upload = _bind(uploads.delete_upload)
    list_upload_uses = _bind(uploads.list_upload_uses)
    list_audit_uses = _bind(uploads.list_audit_uses)
    plan_erasure = _bind(erasure.plan_erasure)
    erase = _bind(erasure.erase)

    find_equal_declaration = _bind(declarations.find_equal)
    record_declaration = _bind_new(declarations.record_declaration)
    get_declaration = _bind(declarations.get_declaration)
    list_declarations = _bind(declarations.list_declarations)
    change_declaration_labels = _bind(declarations.change_labels)
    delete_declarations = _bind(declarations.delete_declarations)
    plan_declaration_erasure = _bind(declarations.plan_declaration_erasure)
    erase_declarations = _bind(declarations.erase_declarations)

    add_webhook = _bind_new(webhooks.add_webhook)
    list_webhooks = _bind(webhooks.list_webhooks)
    delete_webhook = _bind(webhooks.delete_webhook)
    add_test_delivery = _bind(webhooks.add_test_delivery)
    list_deliveries = _bind(webhooks.list_deliveries)

    list_produced_artifacts = _bind(repair.list_produced_artifacts)
    find_producer = _bind(repair.find_producer)
    rebuild_artifact = _bind(repair.rebuild_artifact)
