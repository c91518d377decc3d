"""An id for each request, in its response, its error and every line that is logged meanwhile."""

from __future__ import annotations

import re
import secrets

from flask import Flask, Response, g, request
from structlog.contextvars import bind_contextvars, clear_contextvars

HEADER = "X-Request-ID"
_FORMAT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_ENVIRON_KEY = "palimpsest.request_id"


def get_request_id() -> str:
    """The id of this request: its client's or proxy's, if that is well formed, or a random one.

    It stays in the environ: a request is looked at several times before it is answered.
    """
    environ = request.environ
    if _ENVIRON_KEY not in environ:
        given = request.headers.get(HEADER, "")
        environ[_ENVIRON_KEY] = given if _FORMAT.fullmatch(given) else secrets.token_hex(16)
    return str(environ[_ENVIRON_KEY])


def install(app: Flask) -> None:
    """To be called before anything else that looks at requests is installed."""

    @app.before_request
    def _bind() -> None:
        clear_contextvars()  # of the request that this thread answered before
        bind_contextvars(request_id=get_request_id())

    @app.after_request
    def _return(response: Response) -> Response:
        response.headers[HEADER] = get_request_id()
        return response


def install_tenant(app: Flask) -> None:
    """To be called once authentication is installed: from then on, lines name the tenant."""

    @app.before_request
    def _bind() -> None:
        if "store" in g:  # probes are nobody's
            bind_contextvars(tenant=g.store.tenant)
