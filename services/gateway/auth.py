"""Authentication: a bearer token on every route but the two probes.

A browser cannot send a bearer token, so it opens a URL with `?token=...` once, as with Jupyter. The
response sets a cookie (HttpOnly, SameSite=Strict) and redirects to the same page without the token.
The cookie contains a value derived from the token, never the token.
"""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import quote

from flask import Flask, Response, g, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from services.gateway.problems import make_problem
from shared.config import Settings
from shared.errors import InvalidRequest
from shared.jobs.database import Database
from shared.jobs.tenant_store import TenantStore

PUBLIC_PATHS = frozenset({"/livez", "/readyz"})
METRICS_PATH = "/metrics"
SESSION_COOKIE = "palimpsest_session"
SESSION_DAYS = 30
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def require_token(settings: Settings) -> str:
    """The token that requests must carry.

    Raises:
        InvalidRequest: none is set.
    """
    token = settings.token.get_secret_value().strip() if settings.token else ""
    if not token:
        raise InvalidRequest(
            "the gateway does not start without a token: set PALIMPSEST_TOKEN to a long random "
            "string, such as the output of "
            "`python -c 'import secrets; print(secrets.token_urlsafe(32))'`",
            "PALIMPSEST_TOKEN",
        )
    return token


def derive_session(token: str) -> str:
    """The session cookie's value for this token."""
    return hmac.new(token.encode(), b"palimpsest browser session", hashlib.sha256).hexdigest()


def _secrets_match(presented: str, expected: str) -> bool:
    return hmac.compare_digest(presented.encode("utf-8", "surrogatepass"), expected.encode())


def install(app: Flask, settings: Settings, db: Database) -> None:
    """Check every request before anything else happens, and bind the job store to its tenant."""
    token = require_token(settings)
    session = derive_session(token)

    @app.before_request
    def _authenticate() -> AnyResponse | None:
        g.store = TenantStore(db, settings.tenant)
        if request.path in PUBLIC_PATHS:
            return None
        if _is_scrape(settings):
            return None
        scheme, _, presented = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return (
                None
                if _secrets_match(presented.strip(), token)
                else _reject_unauthenticated("the bearer token is wrong")
            )
        if request.method == "GET" and "token" in request.args:
            return (
                _sign_in()
                if _secrets_match(request.args["token"], token)
                else _reject_unauthenticated("the token is wrong")
            )
        if not _secrets_match(request.cookies.get(SESSION_COOKIE, ""), session):
            return _reject_unauthenticated(
                "send the header `Authorization: Bearer TOKEN`, or open the page with ?token=TOKEN"
            )
        if request.method not in SAFE_METHODS and not _is_same_origin():
            return make_problem(403, "requests from another origin are not allowed")
        return None

    def _sign_in() -> AnyResponse:
        # one slash: a path that starts with two would be read as another host
        response = redirect("/" + quote(request.path.lstrip("/\\")), 303)
        max_age_s = SESSION_DAYS * 24 * 3600
        response.set_cookie(
            SESSION_COOKIE,
            session,
            max_age=max_age_s,
            httponly=True,
            samesite="Strict",
            secure=request.is_secure,
            path="/",
        )
        return response


def _is_scrape(settings: Settings) -> bool:
    """Whether the request reads /metrics with the token that opens nothing else."""
    expected = settings.metrics_token.get_secret_value().strip() if settings.metrics_token else ""
    scheme, _, presented = request.headers.get("Authorization", "").partition(" ")
    return (
        bool(expected)
        and request.path == METRICS_PATH
        and request.method in SAFE_METHODS
        and scheme.lower() == "bearer"
        and _secrets_match(presented.strip(), expected)
    )


def _is_same_origin() -> bool:
    """Whether a page of this origin sent the request. Cookies are shared between ports: without
    this check, a page that another program serves on this host would be accepted."""
    origin = request.headers.get("Origin")
    if origin is not None:
        return origin == request.host_url.rstrip("/")
    return request.headers.get("Sec-Fetch-Site") in ("same-origin", "none")


def _reject_unauthenticated(detail: str) -> Response:
    return make_problem(401, detail, headers={"WWW-Authenticate": 'Bearer realm="palimpsest"'})
