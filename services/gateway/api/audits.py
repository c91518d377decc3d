"""/v1/audits: submit a grid of choices (or dry-run it), list, get, change, cancel, retry, delete."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from flask import Response, jsonify
from pydantic import BaseModel, Field, RootModel

from services.gateway import job_control
from services.gateway.api._blueprint import PageQuery, Query, make_blueprint
from services.gateway.api._dry_run import DryRun, DryRunQuery
from services.gateway.api.artifacts import ErasureView, serialize_erasure
from services.gateway.api.audit_planning import plan_audit, submit_audit
from services.gateway.api.jobs import PriorityBody
from services.gateway.archive import stream_archive
from services.gateway.audit_body import AuditBody, AuditPatch, describe_submission
from services.gateway.deps import current_gateway, current_store
from services.gateway.filters import AuditFields
from services.gateway.manifest import PAYLOAD_TYPE, build_manifest
from services.gateway.problems import document_errors
from services.gateway.responses import (
    compute_beginning,
    respond_accepted,
    respond_with_digest_etag,
)
from services.gateway.schemas import (
    AuditView,
    serialize_audit,
)
from services.gateway.submission import (
    AUDIT_ID,
    IdempotencyHeader,
    require_id_format,
)
from services.signing import make_envelope
from shared.errors import Conflict
from shared.jobs.records import Audit

routes = make_blueprint("audits", "grids of choices; identical jobs run once")


class AuditPath(BaseModel):
    audit_id: str = Field(description="aud_...")

    @property
    def valid_id(self) -> str:
        return require_id_format(self.audit_id, AUDIT_ID, "audit")


class AuditDeletionQuery(Query):
    cancel: bool = Field(
        False, description="cancel it first, and delete it once its jobs have ended"
    )


class SubmittedAudit(AuditView):
    """An audit as it was accepted."""

    created: list[str] = Field(description="ids of its new jobs; the others are reused")


class Signature(BaseModel):
    keyid: str = Field(description="sha256 of the public key in DER")
    sig: str = Field(
        description="base64 of the Ed25519 signature of DSSE's pre-authentication encoding (PAE)"
    )


class Envelope(BaseModel):
    """A DSSE envelope."""

    payloadType: str  # DSSE's spelling
    payload: str = Field(description="base64 of an in-toto statement")
    signatures: list[Signature] = Field(description="empty if the gateway has no signing key")


class ArchiveQuery(Query):
    models: bool = Field(True, description="include the weights of models")


_ZIP_RESPONSE = {
    "description": "the archive",
    "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
}


class AuditsQuery(PageQuery, AuditFields):
    """Which audits."""


class RetriedAudit(AuditView):
    """An audit whose failed jobs go again."""

    retried: int = Field(description="jobs that run again")
    skipped: int = Field(
        description="failed jobs that do not run again, because they need a failed job outside the "
        "audit"
    )


class PrioritizedAudit(AuditView):
    """An audit whose jobs have another priority."""

    changed: int = Field(description="jobs whose priority has changed")


class SpecView(RootModel[dict[str, Any]]):
    """The body of a POST to /v1/audits."""


class AuditPage(BaseModel):
    items: list[AuditView]
    next: str | None = Field(description="token of the next page; null at the end")


@routes.post(
    "/audits",
    responses={200: DryRun, 202: SubmittedAudit, **document_errors(400, 409, 413, 415, 422)},
)
def post_audit(body: AuditBody, query: DryRunQuery, header: IdempotencyHeader) -> Response:
    """Submit an audit, or with `dry_run` see which jobs it would create, which of them already
    exist, and what the others would cost.

    Choices that are equal after filling in defaults count once. An audit may have at most 10,000
    jobs and 256 KiB of choices and parameters, and all its jobs together 32 MiB of parameters.
    """
    if query.dry_run:
        plan = plan_audit(body, require_uploads=False)
        return jsonify(plan.describe_dry_run(query.workers))
    submitted = submit_audit(body, header.to_key())
    stored = current_store().get_audit(str(submitted.audit))
    response_body = {
        **serialize_audit(stored, current_store().count_audit_jobs_by_stage(stored.id)),
        "created": sorted(submitted.created),
    }
    return respond_accepted(response_body, f"/v1/audits/{stored.id}", replayed=submitted.replayed)


@routes.get("/audits", responses={200: AuditPage, **document_errors(422)})
def list_audits(query: AuditsQuery) -> Response:
    """List audits, newest first.

    With `state` or `finished_after` a page may have fewer audits than `limit`, or none, and still a
    `next` page; so may one of audits with megabytes of choices and metadata.
    """
    page = current_store().list_audits(
        filters=query.to_audit_filter(), limit=query.limit, page=query.page
    )
    return jsonify({"items": [serialize_audit(a) for a in page.items], "next": page.next})


@routes.get("/audits/<audit_id>", responses={200: AuditView, 304: None, **document_errors(404)})
def get_audit(path: AuditPath) -> Response:
    """Get one audit: its state, and the number of its jobs in each state, in total and by stage."""
    audit = current_store().get_audit(path.valid_id)
    return respond_with_digest_etag(
        serialize_audit(audit, current_store().count_audit_jobs_by_stage(audit.id))
    )


@routes.get(
    "/audits/<audit_id>/manifest",
    responses={200: Envelope, 304: None, **document_errors(404, 409)},
)
def get_manifest(path: AuditPath) -> Response:
    """Get the manifest of an audit's report: digests of the report, the models and the data, and
    all jobs with their parameters; signed if the gateway has a key.

    409 while there is no report.
    """
    audit = current_store().get_audit(path.valid_id)
    with current_gateway().planning_limiter.acquire():  # of 10,000 jobs it takes seconds
        return respond_with_digest_etag(_sign_manifest(audit))


@routes.patch(
    "/audits/<audit_id>",
    responses={200: AuditView, **document_errors(400, 404, 409, 413, 415, 422)},
)
def patch_audit(path: AuditPath, body: AuditPatch) -> Response:
    """Change labels and metadata of an audit. None of its jobs is changed."""
    current_store().annotate_audit(path.valid_id, labels=body.labels, metadata=body.metadata)
    return jsonify(_serialize(path.valid_id))


@routes.get("/audits/<audit_id>/spec", responses={200: SpecView, 304: None, **document_errors(404)})
def get_spec(path: AuditPath) -> Response:
    """Get the body that submits this audit again, labels and metadata included, without default
    values: change what should be different, and post it."""
    audit = current_store().get_audit(path.valid_id)
    return respond_with_digest_etag(describe_submission(audit))


@routes.get(
    "/audits/<audit_id>/archive.zip", responses={200: _ZIP_RESPONSE, **document_errors(404)}
)
def get_archive(path: AuditPath, query: ArchiveQuery) -> Response:
    """Download an audit as a zip archive: report, manifest, and the record and artifacts of every
    job. Each artifact is stored once.

    `index.json` in it says where each artifact is, or why it is missing. The archive is made while
    it is sent, so its size is not known in advance; an interrupted one has no end.
    """
    audit, deps = current_store().get_audit(path.valid_id), current_gateway().deps
    manifest = None
    with suppress(Conflict), current_gateway().planning_limiter.acquire():
        manifest = json.dumps(_sign_manifest(audit), indent=1).encode()
    chunks = stream_archive(deps, current_store(), audit, manifest, models=query.models)
    response = Response(compute_beginning(chunks), content_type="application/zip")
    response.headers["Content-Disposition"] = f'attachment; filename="{audit.id}.zip"'
    return response


def _sign_manifest(audit: Audit) -> dict[str, Any]:
    payload = build_manifest(current_store(), audit)
    return make_envelope(current_gateway().deps.signing_key, PAYLOAD_TYPE, payload)


@routes.delete(
    "/audits/<audit_id>",
    responses={200: ErasureView, 202: ErasureView, **document_errors(404, 409)},
)
def delete_audit(path: AuditPath, query: AuditDeletionQuery) -> Response:
    """Permanently delete an audit, with the jobs and artifacts that nothing else needs.

    These stay: what another audit or a job posted by hand shares with it or depends on, and what
    you have uploaded or declared. 409 while jobs of it have not ended, unless `cancel=true`. 202 if
    the reconciler still has to remove the rest: the audit is no longer visible.
    """
    erased = current_store().delete_audit(
        current_gateway().deps.artifacts, path.valid_id, cancel=query.cancel
    )
    response = jsonify(serialize_erasure(erased))
    response.status_code = 200 if erased.finished else 202
    return response


@routes.post("/audits/<audit_id>/cancel", responses={202: AuditView, **document_errors(404)})
def cancel_audit(path: AuditPath) -> Response:
    """Cancel an audit and those of its jobs that no other audit needs. Repeatable."""
    current_store().cancel_audit(path.valid_id)
    return _respond_changed(path.valid_id)


@routes.post("/audits/<audit_id>/retry", responses={202: RetriedAudit, **document_errors(404, 409)})
def retry_audit(path: AuditPath) -> Response:
    """Run all failed and cancelled jobs of an audit again, in order, each from its checkpoint if it
    has one. Jobs that have succeeded stay. A report that was made without the results of these jobs
    is made again.

    409 if no job has failed, or the audit was cancelled.
    """
    done = job_control.retry_audit(path.valid_id)
    return _respond_changed(path.valid_id, retried=done.retried, skipped=done.skipped)


@routes.post(
    "/audits/<audit_id>/priority",
    responses={202: PrioritizedAudit, **document_errors(400, 404, 409, 413, 415)},
)
def set_audit_priority(path: AuditPath, body: PriorityBody) -> Response:
    """Change the priority of all jobs of an audit that have not ended, including those that it
    shares with other audits of yours. Repeatable."""
    changed = current_store().set_audit_priority(path.valid_id, body.priority)
    return _respond_changed(path.valid_id, changed=changed)


def _respond_changed(audit_id: str, **more: int) -> Response:
    return respond_accepted({**_serialize(audit_id), **more}, f"/v1/audits/{audit_id}")


def _serialize(audit_id: str) -> dict[str, Any]:
    store = current_store()
    return serialize_audit(store.get_audit(audit_id), store.count_audit_jobs_by_stage(audit_id))
