"""The gateway's application factory. Importing has no effects."""

from __future__ import annotations

from typing import Any

from flask import Response, request
from flask_openapi.openapi import OpenAPI

from services.gateway import (
    access_logging,
    auth,
    console,
    json_body,
    openapi_document,
    problems,
    query_parameters,
    request_id,
    request_limiter,
    security_headers,
)
from services.gateway.api import ROUTES
from services.gateway.credentials import require_credentials
from services.gateway.deps import EXTENSION_KEY, Gateway, GatewayDeps
from services.gateway.request_limiter import RequestLimiter

_INFO: dict[str, Any] = {
    "title": "Palimpsest",
    "version": "1",
    "description": "Measures what machine unlearning leaks. Submit an audit or a job, follow it, "
    "fetch its artifacts.",
}


class _App(OpenAPI):
    request_class = json_body.StrictRequest

    def make_default_options_response(self) -> Response:
        """Allow what the routes of this very path take: Flask would add those of a path with a
        parameter, such as /v1/jobs/<job_id> for /v1/jobs/cancel."""
        response = super().make_default_options_response()
        path = request.url_rule.rule if request.url_rule else None
        rules = [rule for rule in self.url_map.iter_rules() if rule.rule == path]
        response.allow.clear()
        response.allow.update(method for rule in rules for method in rule.methods or ())
        return response

    def generate_spec_json(self) -> None:
        super().generate_spec_json()  # type: ignore[no-untyped-call]  # untyped in flask-openapi
        openapi_document.complete_document(self.spec_json)


def create_app(deps: GatewayDeps) -> OpenAPI:
    """The WSGI application over these dependencies.

    Raises:
        InvalidRequest: the settings have no token, and the job store no valid key.
        TransientError: the job store does not answer.
    """
    require_credentials(deps.db, deps.settings)
    app = _App(
        __name__,
        info=_INFO,
        static_folder=None,
        security_schemes={"bearer": {"type": "http", "scheme": "bearer"}},
        validation_error_model=problems.Problem,
        validation_error_callback=problems.make_validation_problem,
    )
    app.url_map.merge_slashes = False  # //v1/jobs is a 404, not a redirect
    app.config["MAX_CONTENT_LENGTH"] = json_body.MAX_BODY_BYTES
    app.json.sort_keys = False  # type: ignore[attr-defined]  # Flask types the base class only
    gateway = app.extensions[EXTENSION_KEY] = Gateway.from_deps(deps)
    request_id.install(app)
    gateway.monitor.request_counts.install(app)
    problems.install(app)
    security_headers.install(app)
    auth.install(app, deps.settings, deps.db, gateway.authenticator)
    request_id.install_tenant(app)
    # what is refused for its number is not worth a row in the log
    broker_url = deps.settings.broker_url.get_secret_value()
    request_limiter.install(app, RequestLimiter.from_url(broker_url), gateway.quotas)
    access_logging.install(app, deps.db)
    auth.install_scopes(app)
    query_parameters.install(app)
    for routes in ROUTES:
        app.register_api(routes)
    console.install(app)
    return app
