"""/audits/{id}/cancel, /retry, /priority, /labels and /delete: what a user does to an audit."""

from __future__ import annotations

from collections.abc import Callable

from flask import Response, request
from werkzeug.wrappers import Response as AnyResponse

from services.gateway import job_control
from services.gateway.console._actions import act, read_priority, respond_done
from services.gateway.console._labels import BLANK_ROWS, join_labels, read_label_changes
from services.gateway.console._pages import make_pages, render_page
from services.gateway.console.audit import find_audit, render_audit
from services.gateway.deps import current_gateway, current_store
from services.gateway.scopes import require_scope
from shared.errors import Conflict, InvalidRequest
from shared.jobs.keys import SUBMIT
from shared.jobs.labels import MAX_LABELS

pages = make_pages("audit_actions")


def _act(audit_id: str, do: Callable[[str], AnyResponse]) -> AnyResponse:
    """Do it to an audit of the tenant; what keeps it from being done is said on its page."""
    found_id = find_audit(audit_id).id
    return act(lambda: do(found_id), lambda text, status: render_audit(found_id, text, status))


@pages.post("/audits/<audit_id>/cancel")
def cancel(audit_id: str) -> AnyResponse:
    """Cancel it, and those of its jobs that no other audit needs."""

    def do(audit_id: str) -> AnyResponse:
        current_store().cancel_audit(audit_id)
        return respond_done(f"/audits/{audit_id}", "audit_cancelled")

    return _act(audit_id, do)


@pages.post("/audits/<audit_id>/retry")
def retry(audit_id: str) -> AnyResponse:
    """Run its failed and cancelled jobs again."""

    def do(audit_id: str) -> AnyResponse:
        done = job_control.retry_audit(audit_id)
        return respond_done(
            f"/audits/{audit_id}", "audit_retried", n=done.retried, more=done.skipped
        )

    return _act(audit_id, do)


@pages.post("/audits/<audit_id>/priority")
def set_priority(audit_id: str) -> AnyResponse:
    """Change the priority of its jobs that have not ended."""

    def do(audit_id: str) -> AnyResponse:
        changed = current_store().set_audit_priority(audit_id, read_priority())
        return respond_done(f"/audits/{audit_id}", "priority", n=changed)

    return _act(audit_id, do)


@pages.get("/audits/<audit_id>/labels")
@require_scope(SUBMIT)
def edit_labels(audit_id: str) -> Response:
    """The form for labels."""
    audit = find_audit(audit_id)
    return render_page("audit_labels.html", audit=audit, rows=join_labels(audit.labels), message="")


@pages.post("/audits/<audit_id>/labels")
def save_labels(audit_id: str) -> AnyResponse:
    """Give the audit these labels and no others."""
    audit = find_audit(audit_id)
    keys, values = request.form.getlist("key"), request.form.getlist("value")
    try:
        changes = read_label_changes(keys, values, audit.labels)
        current_store().annotate_audit(audit.id, labels=changes)
    except (InvalidRequest, Conflict) as error:
        rows = list(zip(keys, values, strict=False))[: MAX_LABELS + BLANK_ROWS]
        return render_page("audit_labels.html", 422, audit=audit, rows=rows, message=str(error))
    return respond_done(f"/audits/{audit.id}", "labels")


@pages.get("/audits/<audit_id>/delete")
@require_scope(SUBMIT)
def ask_deletion(audit_id: str) -> Response:
    """What would go, and whether it may."""
    return _ask_deletion(audit_id)


def _ask_deletion(audit_id: str, refused: str = "", status: int = 200) -> Response:
    audit = find_audit(audit_id)
    estimate = current_store().estimate_deletion(audit.id)
    return render_page("audit_delete.html", status, audit=audit, estimate=estimate, refused=refused)


@pages.post("/audits/<audit_id>/delete")
def delete(audit_id: str) -> AnyResponse:
    """Delete it for good. If `cancel` was ticked, what has not ended is cancelled first."""

    def do() -> AnyResponse:
        erased = current_store().delete_audit(
            current_gateway().deps.artifacts, audit.id, cancel="cancel" in request.form
        )
        if not erased.finished:
            return respond_done("/audits", "audit_deleting")
        return respond_done("/audits", "audit_deleted", n=erased.jobs, more=erased.artifacts)

    audit = find_audit(audit_id)
    return act(do, lambda text, status: _ask_deletion(audit.id, text, status))
