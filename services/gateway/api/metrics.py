"""/metrics, for Prometheus: what all its metrics mean, `services.gateway.monitoring.families`
says."""

from __future__ import annotations

from flask import Response, request
from flask_openapi.blueprint import APIBlueprint

from services.gateway.auth import METRICS_PATH
from services.gateway.deps import current_gateway

routes = APIBlueprint("metrics", __name__)


@routes.get(METRICS_PATH, doc_ui=False)
def get_metrics() -> Response:
    """Metrics of all tenants, for the operator: opened by the token of the gateway, or by one that
    opens nothing else (`PALIMPSEST_METRICS_TOKEN`)."""
    body, media_type = current_gateway().monitor.render(request.headers.get("Accept", ""))
    return Response(body, content_type=media_type, headers={"Cache-Control": "no-store"})
