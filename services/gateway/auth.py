"""Who may come in: a bearer token on every route but the two probes.

A browser cannot send a bearer token, so it is given a URL with `?token=...` once, as Jupyter does. That
answers with a cookie (HttpOnly, SameSite=Strict) and a redirect to the same page without the token. The
cookie holds a value derived from the token, never the token.
"""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import quote

from flask import Flask, Response, g, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from services.gateway.problems import problem
from shared.config import Settings
from shared.errors import InvalidRequest

OPEN = frozenset({"/livez", "/readyz"})
COOKIE = "palimpsest_session"
COOKIE_DAYS = 30
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def required_token(settings: Settings) -> str:
    """The token that requests must carry.

    Raises:
        InvalidRequest: none is set.
    """
    token = settings.token.get_secret_value().strip() if settings.token else ""
    if not token:
        raise InvalidRequest(
            "the gateway does not start without a token: set PALIMPSEST_TOKEN to a long random text, such as the "
            "output of `python -c 'import secrets; print(secrets.token_urlsafe(32))'`",
            "PALIMPSEST_TOKEN",
        )
    return token


def session_value(token: str) -> str:
    """What the cookie of a signed-in browser holds."""
    return hmac.new(token.encode(), b"palimpsest browser session", hashlib.sha256).hexdigest()


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), wanted.encode())


def install(app: Flask, settings: Settings) -> None:
    """Check every request before anything else happens."""
    token = required_token(settings)
    session = session_value(token)

    @app.before_request
    def _who() -> AnyResponse | None:
        g.tenant = settings.tenant
        if request.path in OPEN:
            return None
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return None if _same(given.strip(), token) else _unauthorized("the bearer token is wrong")
        if request.method == "GET" and "token" in request.args:
            return _sign_in() if _same(request.args["token"], token) else _unauthorized("the token is wrong")
        if not _same(request.cookies.get(COOKIE, ""), session):
            return _unauthorized("send the header `Authorization: Bearer TOKEN`, or open the page with ?token=TOKEN")
        if request.method not in SAFE and not _from_our_page():
            return problem(403, "a page of another origin may not send this")
        return None

    def _sign_in() -> AnyResponse:
        # one slash: a path that starts with two would be read as another host
        response = redirect("/" + quote(request.path.lstrip("/\\")), 303)
        age = COOKIE_DAYS * 24 * 3600
        response.set_cookie(
            COOKIE, session, max_age=age, httponly=True, samesite="Strict", secure=request.is_secure, path="/"
        )
        return response


def _from_our_page() -> bool:
    """Cookies do not tell ports apart: a page that another program serves on this machine would be let in."""
    origin = request.headers.get("Origin")
    if origin is not None:
        return origin == request.host_url.rstrip("/")
    return request.headers.get("Sec-Fetch-Site") in ("same-origin", "none")


def _unauthorized(why: str) -> Response:
    return problem(401, why, headers={"WWW-Authenticate": 'Bearer realm="palimpsest"'})
