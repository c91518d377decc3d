"""The gateway's one factory: all the wiring, no work at import."""

from __future__ import annotations

from typing import Any

from flask_openapi.openapi import OpenAPI

from services.gateway import auth, bodies, document, headers, problems
from services.gateway.api import ROUTES
from services.gateway.deps import EXTENSION, Gateway, GatewayDeps

_INFO: dict[str, Any] = {
    "title": "Palimpsest",
    "version": "1",
    "description": "Measures what machine unlearning leaks. Post an audit or a job, follow it, fetch what it made.",
}


class _App(OpenAPI):
    request_class = bodies.StrictRequest

    def generate_spec_json(self) -> None:
        super().generate_spec_json()  # type: ignore[no-untyped-call]  # flask-openapi leaves it untyped
        document.complete(self.spec_json)


def create_app(deps: GatewayDeps) -> OpenAPI:
    """The WSGI application over these dependencies.

    Raises:
        InvalidRequest: the settings hold no token.
    """
    app = _App(
        __name__,
        info=_INFO,
        static_folder=None,
        security_schemes={"bearer": {"type": "http", "scheme": "bearer"}},
        validation_error_model=problems.Problem,
        validation_error_callback=problems.invalid,
    )
    app.url_map.merge_slashes = False  # //v1/jobs is no route, and no redirect either
    app.config["MAX_CONTENT_LENGTH"] = bodies.MAX_BYTES
    app.json.sort_keys = False  # type: ignore[attr-defined]  # Flask types the base class only
    app.extensions[EXTENSION] = Gateway.of(deps)
    problems.install(app)
    headers.install(app)
    auth.install(app, deps.settings)
    for routes in ROUTES:
        app.register_api(routes)
    return app
