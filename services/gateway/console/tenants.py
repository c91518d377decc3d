"""/tenants: who owns things here, and how much of them they may have."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from services.gateway.console._fields import read_whole
from services.gateway.console._pages import make_pages, render_page
from services.gateway.deps import current_gateway
from services.gateway.operator_actions import create_tenant
from services.gateway.scopes import require_scope
from shared.errors import Conflict, InvalidRequest
from shared.jobs import tenants
from shared.jobs.keys import ADMIN
from shared.jobs.quotas import QUOTA_NAMES, Quotas
from shared.jobs.tenants import check_tenant_name

pages = make_pages("tenants")

PAGE_SIZE = 50
QUOTAS = {
    "max_queued_jobs": "Waiting jobs",
    "max_running_jobs": "Running jobs",
    "max_artifact_bytes": "Bytes of artifacts",
    "max_event_streams": "Event streams",
    "max_requests_per_minute": "Requests per minute",
}


@pages.get("/tenants")
@require_scope(ADMIN)
def show_list() -> Response:
    """The tenants by name with their quotas, and a form for another."""
    return _render()


@pages.post("/tenants")
@require_scope(ADMIN)
def create() -> AnyResponse:
    """Create a tenant."""
    name = request.form.get("name", "").strip()
    try:
        check_tenant_name(name)
        create_tenant(name, Quotas(**{quota: read_whole(quota) for quota in QUOTA_NAMES}))
    except InvalidRequest as error:
        return _render({error.field: error.message})
    except Conflict as error:
        return _render({"name": str(error)})
    return redirect("/tenants", 303)


def _render(errors: Mapping[str, str] | None = None) -> Response:
    after = tenants.clean_name(request.args.get("after", ""))
    items, following = tenants.list_tenants(current_gateway().deps.db, after=after, limit=PAGE_SIZE)
    return render_page(
        "tenants.html",
        422 if errors else 200,
        tenants=items,
        following=following,
        is_first=not after,
        quotas=QUOTAS,
        errors=errors or {},
        form=request.form,
    )
