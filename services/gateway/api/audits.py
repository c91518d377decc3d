"""/v1/audits: submit a grid of choices (or dry-run it), list, get, cancel."""

from __future__ import annotations

from flask import Response, jsonify
from pydantic import BaseModel, Field

from services.gateway.api._blueprint import PageQuery, make_blueprint
from services.gateway.api._declaring import resolve_names
from services.gateway.api._dry_run import DryRun, DryRunQuery, respond_dry_run
from services.gateway.deps import current_gateway, current_store, digest_files
from services.gateway.manifest import PAYLOAD_TYPE, build_manifest
from services.gateway.problems import document_errors
from services.gateway.responses import respond_accepted, respond_with_digest_etag
from services.gateway.schemas import (
    AuditView,
    serialize_audit,
)
from services.gateway.submission import (
    AUDIT_ID,
    IdempotencyHeader,
    find_request_replay,
    require_id_format,
    store_planned,
)
from services.signing import make_envelope
from shared.jobs.costs import describe_costs
from shared.jobs.plan import plan_resolved, resolve_posted
from shared.jobs.spec import AuditSpec
from shared.jobs.submit import AuditRequest

routes = make_blueprint("audits", "grids of choices; identical jobs run once")


class AuditPath(BaseModel):
    audit_id: str = Field(description="aud_...")

    @property
    def valid_id(self) -> str:
        return require_id_format(self.audit_id, AUDIT_ID, "audit")


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


class AuditPage(BaseModel):
    items: list[AuditView]
    next: str | None = Field(description="token of the next page; null at the end")


@routes.post(
    "/audits",
    responses={200: DryRun, 202: SubmittedAudit, **document_errors(400, 409, 413, 415, 422)},
)
def post_audit(body: AuditSpec, query: DryRunQuery, header: IdempotencyHeader) -> Response:
    """Submit an audit, or with `dry_run` see which jobs it would create, which of them already exist,
    and what the others would cost.

    Choices that are equal after filling in defaults count once. An audit is limited to 10,000 jobs
    and 256 KiB of choices and parameters, and all its jobs together to 32 MiB of parameters.
    """
    key = None if query.dry_run else header.to_key()
    submitted = find_request_replay(key)
    if submitted is None:
        planning, catalog = (
            current_gateway().planning_limiter,
            current_gateway().catalog_cache.catalog,
        )
        body = resolve_names(body)
        with planning.acquire():
            resolved = resolve_posted(body, catalog)
        # while others plan
        data = digest_files(resolved.files, require_uploads=not query.dry_run)
        with planning.acquire():
            planned = plan_resolved(resolved, data)
            if query.dry_run:
                return respond_dry_run(planned, describe_costs(body, planned, catalog), query)
        audit = AuditRequest(body.name, body.model_dump(mode="json"))
        submitted = store_planned(
            planned, key, audit=audit, priority=body.priority, time_limit=body.time_limit
        )
    stored = current_store().get_audit(str(submitted.audit))
    response_body = {
        **serialize_audit(stored, current_store().count_audit_jobs_by_stage(stored.id)),
        "created": sorted(submitted.created),
    }
    return respond_accepted(response_body, f"/v1/audits/{stored.id}", replayed=submitted.replayed)


@routes.get("/audits", responses={200: AuditPage, **document_errors(422)})
def list_audits(query: PageQuery) -> Response:
    """List audits, newest first."""
    page = current_store().list_audits(limit=query.limit, page=query.page)
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
        payload = build_manifest(current_store(), audit)
        key = current_gateway().deps.signing_key
        return respond_with_digest_etag(make_envelope(key, PAYLOAD_TYPE, payload))


@routes.post("/audits/<audit_id>/cancel", responses={202: AuditView, **document_errors(404)})
def cancel_audit(path: AuditPath) -> Response:
    """Cancel an audit and those of its jobs that no other audit needs. Repeatable."""
    current_store().cancel_audit(path.valid_id)
    audit = current_store().get_audit(path.valid_id)
    return respond_accepted(
        serialize_audit(audit, current_store().count_audit_jobs_by_stage(audit.id)),
        f"/v1/audits/{audit.id}",
    )
