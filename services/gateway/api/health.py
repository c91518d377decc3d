"""/livez and /readyz, for whoever keeps the process; they need no token and tell no secrets."""

from __future__ import annotations

import redis
import structlog
from flask import Response, jsonify, redirect
from flask_openapi.blueprint import APIBlueprint
from pydantic import BaseModel
from werkzeug.wrappers import Response as AnyResponse

from services.gateway.deps import db, gateway
from shared.errors import Conflict, TransientError
from shared.jobs.migrations import require_current

log = structlog.get_logger()

routes = APIBlueprint("health", __name__, abp_tags=[{"name": "health", "description": "for whoever keeps the process"}])

BROKER_TIMEOUT = 0.5  # seconds


class Live(BaseModel):
    status: str


@routes.get("/livez", responses={200: Live})
def livez() -> Response:
    """The process answers."""
    return jsonify({"status": "live"})


@routes.get("/readyz", responses={200: {}, 503: {}})
def readyz() -> Response:
    """The job store answers and has the schema that this code needs."""
    checks = {"store": "ok", "schema": "ok", "broker": _broker()}
    try:
        require_current(db())
    except TransientError as error:
        log.warning("not ready", error=str(error))
        checks |= {"store": "away", "schema": "unknown"}
    except Conflict as error:
        log.warning("not ready", error=str(error))
        checks |= {"schema": "not current: run `python -m services.admin migrate`"}
    ready = checks["store"] == checks["schema"] == "ok"
    response = jsonify({"status": "ready" if ready else "not ready", **checks})
    response.status_code = 200 if ready else 503
    return response


def _broker() -> str:
    url = gateway().deps.settings.broker_url.get_secret_value()
    try:
        with redis.from_url(url, socket_connect_timeout=BROKER_TIMEOUT, socket_timeout=BROKER_TIMEOUT) as connection:
            connection.ping()
    except (redis.RedisError, OSError, ValueError):
        return "away"
    return "ok"


@routes.get("/", doc_ui=False)
def home() -> AnyResponse:
    """Where a browser starts."""
    return redirect("/openapi/", 303)
