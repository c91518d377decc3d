"""/metrics, for Prometheus: what all its metrics mean, `services.gateway.monitoring.families`
says."""

from __future__ import annotations

from flask import Response, request
from flask_openapi.blueprint import APIBlueprint

from services.gateway.auth import METRICS_PATH
from services.gateway.deps import current_gateway
from services.gateway.scopes import require_scope
from shared.jobs.keys import ADMIN

routes = APIBlueprint("metrics", __name__)


@routes.get(METRICS_PATH, doc_ui=False)
@require_scope(ADMIN)
def get_metrics() -> Response:
    """Metrics of all tenants, for the operator: opened by a key with the scope `admin`, the token of the
    gateway, or a token that opens nothing else (`PALIMPSEST_METRICS_TOKEN`)."""
    body, media_type = current_gateway().monitor.render(request.headers.get("Accept", ""))
    return Response(body, content_type=media_type, headers={"Cache-Control": "no-store"})
