"""Tokens in forms: a form that another site made a browser send has none.

A token is derived from the session's cookie, which no other site can read, so nothing is stored. It
stands beside the check of the request's origin (`services.gateway.auth`) and the SameSite cookie.
"""

from __future__ import annotations

import hashlib
import hmac

from flask import Response, request

from services.gateway.problems import make_problem
from services.gateway.scopes import READ_METHODS
from services.gateway.sessions import SESSION_COOKIE

FIELD = "form_token"
HEADER = "X-Form-Token"  # of what is no form, such as a button that htmx sends


def make_form_token() -> str:
    """The token of who sends this request; "" without a session."""
    session = request.cookies.get(SESSION_COOKIE, "")
    if not session:
        return ""
    return hmac.new(session.encode(), b"palimpsest form", hashlib.sha256).hexdigest()


def refuse_forged() -> Response | None:
    """The answer to a change that a browser sends without the token; None if it may go on. A key in
    the header is no session: no site can make a browser send one."""
    # a browser sends other schemes by itself, and is then known by its cookie
    scheme = request.headers.get("Authorization", "").partition(" ")[0]
    if request.method in READ_METHODS or scheme.lower() == "bearer":
        return None
    presented = request.headers.get(HEADER) or request.form.get(FIELD, "")
    expected = make_form_token()
    if expected and hmac.compare_digest(presented.encode("utf-8", "replace"), expected.encode()):
        return None
    return make_problem(
        403, "this form is from an earlier session: go back, reload the page and send it again"
    )
