"""The gateway's application factory. Importing has no effects."""

from __future__ import annotations

from typing import Any

from flask_openapi.openapi import OpenAPI

from services.gateway import (
    auth,
    json_body,
    openapi_document,
    problems,
    request_id,
    security_headers,
)
from services.gateway.api import ROUTES
from services.gateway.deps import EXTENSION_KEY, Gateway, GatewayDeps

_INFO: dict[str, Any] = {
    "title": "Palimpsest",
    "version": "1",
    "description": "Measures what machine unlearning leaks. Submit an audit or a job, follow it, "
    "fetch its artifacts.",
}


class _App(OpenAPI):
    request_class = json_body.StrictRequest

    def generate_spec_json(self) -> None:
        super().generate_spec_json()  # type: ignore[no-untyped-call]  # untyped in flask-openapi
        openapi_document.complete_document(self.spec_json)


def create_app(deps: GatewayDeps) -> OpenAPI:
    """The WSGI application over these dependencies.

    Raises:
        InvalidRequest: the settings have no token.
    """
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
    auth.install(app, deps.settings, deps.db)
    request_id.install_tenant(app)
    for routes in ROUTES:
        app.register_api(routes)
    return app
