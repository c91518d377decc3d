"""/workers: who serves which stages; draining workers, pausing stages."""

from __future__ import annotations

from flask import Response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from services.gateway import operator_actions
from services.gateway.console._pages import make_pages, render_page
from services.gateway.console.live import find_revision
from services.gateway.console.sign_in import find_local_path
from services.gateway.deps import current_gateway
from services.gateway.queue_reading import choose_tenant, read_queues
from services.gateway.scopes import require_scope
from services.gateway.submission import STAGE_NAME, WORKER_ID, require_id_format
from shared.jobs import worker_registry
from shared.jobs.keys import ADMIN
from shared.jobs.revisions import Topic

pages = make_pages("workers")

PAGE_SIZE = 100


@pages.get("/workers")
def show_list() -> Response:
    """All workers of the last hour, live ones first, and the stages."""
    gateway, tenant = current_gateway(), choose_tenant()
    revision = find_revision(Topic(tenant))
    stage = request.args.get("stage", "")
    workers = worker_registry.list_workers(gateway.deps.db, tenant)
    shown = [worker for worker in workers if not stage or stage in worker.stages]
    start = max(0, request.args.get("from", 0, type=int))
    return render_page(
        "workers.html",
        revision=revision,
        queues=read_queues(gateway, tenant).values(),
        workers=shown[start : start + PAGE_SIZE],
        n_live=sum(worker.live for worker in workers),
        n_shown=len(shown),
        start=start,
        page_size=PAGE_SIZE,
        stage=stage[:40],
        query=request.query_string.decode("ascii", "ignore"),
    )


@pages.post("/workers/<worker_id>/drain")
@require_scope(ADMIN)
def drain(worker_id: str) -> AnyResponse:
    """Have a worker return its job and take no other."""
    operator_actions.drain_worker(require_id_format(worker_id, WORKER_ID, "worker"))
    return _go_back()


@pages.post("/workers/<worker_id>/undrain")
@require_scope(ADMIN)
def undrain(worker_id: str) -> AnyResponse:
    """Let a drained worker take jobs again."""
    operator_actions.undrain_worker(require_id_format(worker_id, WORKER_ID, "worker"))
    return _go_back()


@pages.post("/stages/<stage>/pause")
@require_scope(ADMIN)
def pause(stage: str) -> AnyResponse:
    """Keep the jobs of a stage from being claimed."""
    operator_actions.pause_stage(require_id_format(stage, STAGE_NAME, "stage"))
    return _go_back()


@pages.post("/stages/<stage>/resume")
@require_scope(ADMIN)
def resume(stage: str) -> AnyResponse:
    """Let them be claimed again."""
    operator_actions.resume_stage(require_id_format(stage, STAGE_NAME, "stage"))
    return _go_back()


def _go_back() -> AnyResponse:
    """To the page with the button."""
    return redirect(find_local_path(request.form.get("next", "/workers")), 303)
