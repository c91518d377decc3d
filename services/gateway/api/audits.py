"""/v1/audits: post a grid of choices (or ask what it would come to), list, look, cancel."""

from __future__ import annotations

from flask import Response, jsonify
from pydantic import BaseModel, Field

from services.gateway.answers import accepted, by_content
from services.gateway.api._blueprint import PageQuery, Query, blueprint
from services.gateway.deps import db, gateway, identify, tenant
from services.gateway.problems import documented
from services.gateway.submission import AUDIT_ID, IdempotencyHeader, answered_before, known_form, store
from services.gateway.views import AuditView, PlannedView, audit_json, planned_json
from shared.catalog import Catalog
from shared.jobs import control, reads
from shared.jobs.costs import costs
from shared.jobs.plan import plan_resolved, resolve_posted
from shared.jobs.records import PlannedJob
from shared.jobs.spec import AuditSpec
from shared.jobs.submit import AuditRequest

routes = blueprint("audits", "one grid of choices: every job it needs, each made once")


class AuditPath(BaseModel):
    audit_id: str = Field(description="aud_...")

    @property
    def checked(self) -> str:
        return known_form(self.audit_id, AUDIT_ID, "audit")


class PostQuery(Query):
    dry_run: bool = Field(False, description="say what the audit would come to, and store nothing")


class DryRun(BaseModel):
    """What an audit would come to."""

    dry_run: bool
    total: int
    reused: int
    new: int
    jobs: list[PlannedView]
    costs: list[str] = Field(description="sentences on what costs more than it looks, such as queries")


class SubmittedAudit(AuditView):
    """An audit as it was accepted."""

    created: list[str] = Field(description="ids of its jobs that are new; the others were there")


class AuditPage(BaseModel):
    items: list[AuditView]
    next: str | None = Field(description="token of the next page; null at the end")


@routes.post("/audits", responses={200: DryRun, 202: SubmittedAudit, **documented(400, 409, 413, 415, 422)})
def post_audit(body: AuditSpec, query: PostQuery, header: IdempotencyHeader) -> Response:
    """Submit an audit, or with `dry_run` see which jobs it would have and which of them exist already.

    Choices that are equal once defaults are filled in count once. An audit has at most 10,000 jobs and 256 KiB of
    choices and parameters, and its jobs at most 32 MiB.
    """
    posted = None if query.dry_run else header.posted()
    earlier = answered_before(posted)
    if earlier is None:
        planning, catalog = gateway().planning, gateway().catalog.catalog
        with planning.turn():
            resolved = resolve_posted(body, catalog)
        data = identify(resolved.files)  # while others plan
        with planning.turn():
            planned = plan_resolved(resolved, data)
            if query.dry_run:
                return _dry_run(body, catalog, planned)
        audit = AuditRequest(body.name, body.model_dump(mode="json"))
        earlier = store(planned, posted, audit=audit, priority=body.priority, time_limit=body.time_limit)
    stored = reads.get_audit(db(), tenant(), str(earlier.audit))
    answer = {**audit_json(stored, reads.audit_stages(db(), stored.id)), "created": sorted(earlier.created)}
    return accepted(answer, f"/v1/audits/{stored.id}", replayed=earlier.replayed)


def _dry_run(spec: AuditSpec, catalog: Catalog, planned: list[PlannedJob]) -> Response:
    equal = {} if spec.fresh else reads.live_equals(db(), tenant(), [j.plan_key for j in planned])
    return jsonify(
        {
            "dry_run": True,
            "total": len(planned),
            "reused": len(equal),
            "new": len(planned) - len(equal),
            "jobs": [planned_json(j, equal.get(j.plan_key)) for j in planned],
            "costs": costs(spec, planned, catalog),
        }
    )


@routes.get("/audits", responses={200: AuditPage, **documented(422)})
def list_audits(query: PageQuery) -> Response:
    """List audits, newest first."""
    page = reads.list_audits(db(), tenant(), limit=query.limit, page=query.page)
    return jsonify({"items": [audit_json(a) for a in page.items], "next": page.next})


@routes.get("/audits/<audit_id>", responses={200: AuditView, 304: None, **documented(404)})
def get_audit(path: AuditPath) -> Response:
    """Look at one audit: its state, and how many of its jobs are in each state, in all and by stage."""
    audit = reads.get_audit(db(), tenant(), path.checked)
    return by_content(audit_json(audit, reads.audit_stages(db(), audit.id)))


@routes.post("/audits/<audit_id>/cancel", responses={202: AuditView, **documented(404)})
def cancel_audit(path: AuditPath) -> Response:
    """Cancel an audit: those of its jobs that nothing else needs end. Repeatable."""
    control.cancel_audit(db(), tenant(), path.checked)
    audit = reads.get_audit(db(), tenant(), path.checked)
    return accepted(audit_json(audit, reads.audit_stages(db(), audit.id)), f"/v1/audits/{audit.id}")
