"""/livez and /readyz, the probes; they need no token and reveal no secrets."""

from __future__ import annotations

import redis
import structlog
from flask import Response, jsonify, redirect
from flask_openapi.blueprint import APIBlueprint
from pydantic import BaseModel
from werkzeug.wrappers import Response as AnyResponse

from services.gateway.deps import current_gateway
from shared.errors import Conflict, TransientError
from shared.jobs.migrations import require_current_schema

log = structlog.get_logger()

routes = APIBlueprint(
    "health",
    __name__,
    abp_tags=[{"name": "health", "description": "liveness and readiness probes"}],
)

BROKER_TIMEOUT_S = 0.5


class Liveness(BaseModel):
    status: str


@routes.get("/livez", responses={200: Liveness})
def livez() -> Response:
    """Liveness: the process responds."""
    return jsonify({"status": "live"})


@routes.get("/readyz", responses={200: {}, 503: {}})
def readyz() -> Response:
    """Readiness: the job store responds and has the schema that this code needs."""
    checks = {"store": "ok", "schema": "ok", "broker": _check_broker()}
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


def _check_broker() -> str:
    url = current_gateway().deps.settings.broker_url.get_secret_value()
    try:
        with redis.from_url(
            url, socket_connect_timeout=BROKER_TIMEOUT_S, socket_timeout=BROKER_TIMEOUT_S
        ) as connection:
            connection.ping()
    except (redis.RedisError, OSError, ValueError):
        return "unreachable"
    return "ok"


@routes.get("/", doc_ui=False)
def home() -> AnyResponse:
    """Redirect browsers to the API documentation."""
    return redirect("/openapi/", 303)
