"""/livez and /readyz, the probes; they need no token and reveal no secrets."""

from __future__ import annotations

import structlog
from flask import Response, jsonify
from flask_openapi.blueprint import APIBlueprint
from pydantic import BaseModel

from services.gateway.broker_check import is_broker_away
from services.gateway.deps import current_gateway
from shared.errors import Conflict, TransientError
from shared.jobs.migrations import require_current_schema

log = structlog.get_logger()

routes = APIBlueprint(
    "health",
    __name__,
    abp_tags=[{"name": "health", "description": "liveness and readiness probes"}],
)


class Liveness(BaseModel):
    status: str


@routes.get("/livez", responses={200: Liveness})
def livez() -> Response:
    """Liveness: the process responds."""
    return jsonify({"status": "live"})


@routes.get("/readyz", responses={200: {}, 503: {}})
def readyz() -> Response:
    """Readiness: the job store responds and has the schema that this code needs."""
    is_away = is_broker_away(current_gateway().deps.settings)
    checks = {"store": "ok", "schema": "ok", "broker": "unreachable" if is_away else "ok"}
    try:
        require_current_schema(current_gateway().deps.db)
    except TransientError as error:
        log.warning("not ready", error=str(error))
        checks |= {"store": "unreachable", "schema": "unknown"}
    except Conflict as error:
        log.warning("not ready", error=str(error))
        checks |= {"schema": "not current: run `python -m services.admin migrate`"}
    ready = checks["store"] == checks["schema"] == "ok"
    response = jsonify({"status": "ready" if ready else "not ready", **checks})
    response.status_code = 200 if ready else 503
    return response
