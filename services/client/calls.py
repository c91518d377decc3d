"""Every call of the API as data: the request, and how its answer is parsed."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from .records import (
    Audit,
    BulkCancel,
    Declaration,
    Derived,
    DryRun,
    Erasure,
    Event,
    Job,
    Key,
    Me,
    Page,
    Tenant,
    Upload,
    UploadSpace,
)
from .upload import FileToUpload

T = TypeVar("T")
Body = Mapping[str, Any]


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, and how its answer is parsed.

    repeatable: sending it twice is harmless.
    bounded: a large answer is an error.
    """

    method: str
    path: str
    read: Callable[[Any], T]
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Body | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    bounded: bool = True

    def add_etag(self, etag: str | None) -> Call[T]:
        """The same call, answered with 304 if the ETag is still current."""
        return replace(self, headers={**self.headers, "If-None-Match": etag}) if etag else self


def _quote_segment(text: str) -> str:
    return quote(text, safe="") or "-"


def _read_as_is(body: Any) -> Any:
    return body


def _read_items(body: Any) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = body["items"]
    return items


def _read_id(body: Any) -> str:
    return str(body["id"])


def _read_job_page(body: Any) -> Page[Job]:
    return Page([Job.from_json(job) for job in body["items"]], body["next"])


def _read_audit_page(body: Any) -> Page[Audit]:
    return Page([Audit.from_json(audit) for audit in body["items"]], body["next"])


def _read_upload_page(body: Any) -> Page[Upload]:
    return Page([Upload.from_json(upload) for upload in body["items"]], body["next"])


def _read_declaration_page(body: Any) -> Page[Declaration]:
    return Page([Declaration.from_json(one) for one in body["items"]], body["next"])


def _read_key_page(body: Any) -> Page[Key]:
    return Page([Key.from_json(one) for one in body["items"]], body["next"])


def _read_tenant_page(body: Any) -> Page[Tenant]:
    return Page([Tenant.from_json(one) for one in body["items"]], body["next"])


def _read_upload_space(body: Any) -> UploadSpace:
    return UploadSpace(body["used_bytes"], body["quota_bytes"])


def _read_events(body: Any) -> list[Event]:
    return [Event.from_json(event) for event in body["items"]]


def _drop_unset(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def submit_job(stage: str, *, idempotency_key: str | None = None, **options: Any) -> Call[Job]:
    """`options` are those of `build_job`."""
    body = build_job(stage, **options)
    return Call(
        "POST", "/v1/jobs", Job.from_json, body=body, headers=_build_key_header(idempotency_key)
    )


def dry_run_job(stage: str, **options: Any) -> Call[DryRun]:
    """`options` are those of `build_job`."""
    body = build_job(stage, **options)
    return Call("POST", "/v1/jobs", DryRun.from_json, query={"dry_run": "true"}, body=body)


def build_job(
    stage: str,
    *,
    method: str | None = None,
    params: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Any] | None = None,
    source: str | None = None,
    seed: int | None = None,
    no_cache: bool | None = None,
    priority: int | None = None,
    time_limit: float | None = None,
) -> dict[str, Any]:
    """The request of one job.

    Args:
        source: a job; inputs that are not given are taken from it or its ancestors.
    """
    body = _drop_unset(
        stage=stage,
        method=method,
        params=params,
        inputs=inputs,
        seed=seed,
        no_cache=no_cache,
        priority=priority,
        time_limit=time_limit,
    )
    return body | _drop_unset(**{"from": source})


def submit_audit(spec: Body, idempotency_key: str | None = None) -> Call[Audit]:
    return Call(
        "POST", "/v1/audits", Audit.from_json, body=spec, headers=_build_key_header(idempotency_key)
    )


def _build_key_header(key: str | None) -> dict[str, str]:
    # with a key of its own, every submission can be repeated when the answer was lost
    return {"Idempotency-Key": key or uuid.uuid4().hex}


def dry_run(spec: Body, workers: int | None = None) -> Call[DryRun]:
    query = {"dry_run": "true", **_drop_unset(workers=workers)}
    return Call("POST", "/v1/audits", DryRun.from_json, query=query, body=spec)


def get_job(job_id: str) -> Call[Job]:
    return Call("GET", f"/v1/jobs/{_quote_segment(job_id)}", Job.from_json)


def list_jobs(
    *, limit: int | None = None, page: str | None = None, **filters: str | None
) -> Call[Page[Job]]:
    query = _drop_unset(limit=limit, page=page, **filters)
    return Call("GET", "/v1/jobs", _read_job_page, query=query)


def get_audit(audit_id: str) -> Call[Audit]:
    return Call("GET", f"/v1/audits/{_quote_segment(audit_id)}", Audit.from_json)


def list_audits(
    *, limit: int | None = None, page: str | None = None, **filters: str | None
) -> Call[Page[Audit]]:
    query = _drop_unset(limit=limit, page=page, **filters)
    return Call("GET", "/v1/audits", _read_audit_page, query=query)


def get_manifest(audit_id: str) -> Call[dict[str, Any]]:
    return Call("GET", f"/v1/audits/{_quote_segment(audit_id)}/manifest", _read_as_is)


def get_spec(audit_id: str) -> Call[dict[str, Any]]:
    return Call("GET", f"/v1/audits/{_quote_segment(audit_id)}/spec", _read_as_is)


def get_archive(audit_id: str, models: bool) -> Call[None]:
    path = f"/v1/audits/{_quote_segment(audit_id)}/archive.zip"
    query = {} if models else {"models": "false"}
    return Call("GET", path, _read_as_is, query=query, bounded=False)


def annotate_audit(
    audit_id: str, labels: Mapping[str, str | None] | None, metadata: Body | None
) -> Call[Audit]:
    body = _drop_unset(labels=labels, metadata=metadata)
    return Call("PATCH", f"/v1/audits/{_quote_segment(audit_id)}", Audit.from_json, body=body)


def cancel(item_id: str) -> Call[Job | Audit]:
    return _change_item(item_id, "cancel")


def cancel_jobs(filters: Body, dry_run: bool) -> Call[BulkCancel]:
    query = {"dry_run": "true"} if dry_run else {}
    body = _drop_unset(**filters)
    return Call("POST", "/v1/jobs/cancel", BulkCancel.from_json, query=query, body=body)


def set_priority(item_id: str, priority: int) -> Call[Job | Audit]:
    return _change_item(item_id, "priority", body={"priority": priority})


def retry(item_id: str) -> Call[Job | Audit]:
    """A repeated call finds the jobs in another state."""
    return _change_item(item_id, "retry", repeatable=False)


def change_job(job_id: str, action: str) -> Call[Job]:
    """pause, resume: a repeated call finds the job in another state."""
    return Call(
        "POST", f"/v1/jobs/{_quote_segment(job_id)}/{action}", Job.from_json, repeatable=False
    )


def _change_item(item_id: str, action: str, **options: Any) -> Call[Job | Audit]:
    segment = _quote_segment(item_id)
    if item_id.startswith("aud_"):
        return Call("POST", f"/v1/audits/{segment}/{action}", Audit.from_json, **options)
    return Call("POST", f"/v1/jobs/{segment}/{action}", Job.from_json, **options)


def change_worker(worker: str, action: str) -> Call[dict[str, Any]]:
    """drain, undrain."""
    return Call("POST", f"/v1/workers/{_quote_segment(worker)}/{action}", _read_as_is)


def change_stage(stage: str, action: str) -> Call[dict[str, Any]]:
    """pause, resume."""
    return Call("POST", f"/v1/queues/{_quote_segment(stage)}/{action}", _read_as_is)


def list_events(job_id: str, after: int, limit: int | None = None) -> Call[list[Event]]:
    query = _drop_unset(after=after, limit=limit)
    return Call("GET", f"/v1/jobs/{_quote_segment(job_id)}/events", _read_events, query=query)


def stream_events(job_id: str, after: int) -> Call[None]:
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
    return Call("GET", f"/v1/jobs/{_quote_segment(job_id)}/events", _read_as_is, headers=headers)


def get_artifact(sha256: str) -> Call[None]:
    return Call("GET", f"/v1/artifacts/{_quote_segment(sha256)}", _read_as_is, bounded=False)


def head_artifact(sha256: str) -> Call[None]:
    return Call("HEAD", f"/v1/artifacts/{_quote_segment(sha256)}", _read_as_is)


def upload_artifact(file: FileToUpload) -> Call[Upload]:
    # the same bytes are the same upload, however often they are sent
    return Call("POST", "/v1/artifacts", Upload.from_json, headers=file.build_headers())


def list_uploads(*, limit: int | None = None, page: str | None = None) -> Call[Page[Upload]]:
    query = _drop_unset(limit=limit, page=page)
    return Call("GET", "/v1/artifacts", _read_upload_page, query=query)


def get_upload(sha256: str) -> Call[Upload]:
    path = f"/v1/artifacts/{_quote_segment(sha256)}/upload"
    return Call("GET", path, Upload.from_json)


def get_upload_space() -> Call[UploadSpace]:
    return Call("GET", "/v1/artifacts", _read_upload_space, query={"limit": 1})


def delete_artifact(sha256: str) -> Call[None]:
    return Call("DELETE", f"/v1/artifacts/{_quote_segment(sha256)}", _read_as_is)


def declare(kind: str, body: Body) -> Call[Declaration]:
    """`kind`: models or datasets. Declaring the same again changes nothing."""
    unset = _drop_unset(**body)
    return Call("POST", f"/v1/{kind}", Declaration.from_json, body=unset)


def get_declaration(kind: str, name: str, version: int | None = None) -> Call[Declaration]:
    return Call("GET", _build_declaration_path(kind, name, version), Declaration.from_json)


def list_declarations(
    kind: str, *, limit: int | None = None, page: str | None = None, **filters: str | None
) -> Call[Page[Declaration]]:
    query = _drop_unset(limit=limit, page=page, **filters)
    return Call("GET", f"/v1/{kind}", _read_declaration_page, query=query)


def change_labels(
    kind: str, name: str, version: int, labels: Mapping[str, str | None]
) -> Call[Declaration]:
    path = _build_declaration_path(kind, name, version)
    return Call("PATCH", path, Declaration.from_json, body={"labels": labels})


def delete_declaration(kind: str, name: str, version: int | None = None) -> Call[None]:
    return Call("DELETE", _build_declaration_path(kind, name, version), _read_as_is)


def erase_declaration(kind: str, name: str, version: int | None = None) -> Call[Erasure]:
    path, query = _build_declaration_path(kind, name, version), {"derived": "true"}
    return Call("DELETE", path, Erasure.from_json, query=query)


def _build_declaration_path(kind: str, name: str, version: int | None) -> str:
    path = f"/v1/{kind}/{_quote_segment(name)}"
    return path if version is None else f"{path}/versions/{version}"


def erase_artifact(sha256: str) -> Call[Erasure]:
    path, query = f"/v1/artifacts/{_quote_segment(sha256)}", {"derived": "true"}
    return Call("DELETE", path, Erasure.from_json, query=query)


def delete_audit(audit_id: str, *, cancel: bool = False) -> Call[Erasure]:
    query = {"cancel": "true"} if cancel else {}
    return Call("DELETE", f"/v1/audits/{_quote_segment(audit_id)}", Erasure.from_json, query=query)


def get_derived(sha256: str) -> Call[Derived]:
    path = f"/v1/artifacts/{_quote_segment(sha256)}/derived"
    return Call("GET", path, Derived.from_json)


def add_webhook(url: str, events: Sequence[str] | None = None) -> Call[dict[str, Any]]:
    """Not repeatable: a second request would add a second one."""
    body = _drop_unset(url=url, events=None if events is None else list(events))
    return Call("POST", "/v1/webhooks", _read_as_is, body=body, repeatable=False)


def list_webhooks() -> Call[list[dict[str, Any]]]:
    return Call("GET", "/v1/webhooks", _read_items)


def delete_webhook(webhook_id: str) -> Call[None]:
    return Call("DELETE", f"/v1/webhooks/{_quote_segment(webhook_id)}", _read_as_is)


def test_webhook(webhook_id: str) -> Call[str]:
    path = f"/v1/webhooks/{_quote_segment(webhook_id)}/test"
    return Call("POST", path, _read_id)


def list_webhook_deliveries(
    webhook_id: str, limit: int | None = None
) -> Call[list[dict[str, Any]]]:
    path = f"/v1/webhooks/{_quote_segment(webhook_id)}/deliveries"
    return Call("GET", path, _read_items, query=_drop_unset(limit=limit))


def get_catalog(kind: str | None = None) -> Call[dict[str, Any]]:
    return Call("GET", "/v1/catalog", _read_as_is, query=_drop_unset(kind=kind))


def list_queues() -> Call[list[dict[str, Any]]]:
    return Call("GET", "/v1/queues", _read_items)


def get_me() -> Call[Me]:
    return Call("GET", "/v1/me", Me.from_json)


def list_keys(
    *, tenant: str | None = None, limit: int | None = None, page: str | None = None
) -> Call[Page[Key]]:
    query = _drop_unset(tenant=tenant, limit=limit, page=page)
    return Call("GET", "/v1/keys", _read_key_page, query=query)


def create_key(
    tenant: str,
    *,
    label: str | None = None,
    scopes: Sequence[str] | None = None,
    lifetime_s: float | None = None,
) -> Call[Key]:
    body = _drop_unset(tenant=tenant, label=label, scopes=scopes, lifetime_s=lifetime_s)
    # sent twice, it would create two
    return Call("POST", "/v1/keys", Key.from_json, body=body, repeatable=False)


def revoke_key(key_id: str) -> Call[Key]:
    return Call("POST", f"/v1/keys/{_quote_segment(key_id)}/revoke", Key.from_json)


def list_tenants(*, limit: int | None = None, after: str | None = None) -> Call[Page[Tenant]]:
    query = _drop_unset(limit=limit, after=after)
    return Call("GET", "/v1/tenants", _read_tenant_page, query=query)


def create_tenant(name: str, quotas: Mapping[str, int | None] | None = None) -> Call[Tenant]:
    body = _drop_unset(name=name, quotas=quotas)
    return Call("POST", "/v1/tenants", Tenant.from_json, body=body, repeatable=False)


def list_workers() -> Call[list[dict[str, Any]]]:
    return Call("GET", "/v1/workers", _read_items)
