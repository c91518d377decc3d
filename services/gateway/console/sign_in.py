"""/sign-in and /sign-out: a key or the token for a cookie. Who asks for a page without one is
sent to the form (`_errors.py`)."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from flask import Response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from services.gateway.auth import SIGN_IN_PATH, is_same_origin
from services.gateway.console._pages import make_pages, render_page
from services.gateway.deps import current_gateway
from services.gateway.principal import Principal
from services.gateway.problems import make_problem
from services.gateway.scopes import ANY, require_scope
from services.gateway.sessions import SESSION_COOKIE

pages = make_pages("sign_in")

MAX_SECRET_CHARS = 512
MESSAGES = {
    "empty": "Enter a key or the token.",
    "wrong": "That key is not valid. Check that all of it was copied, or ask for a new one.",
    "often": "Too many wrong keys came from your address. Try again in a minute.",
}


@pages.get(SIGN_IN_PATH)
@require_scope(ANY)
def show() -> Response:
    """The form; after it, the page `next` is shown."""
    message = MESSAGES.get(request.args.get("refused", ""), "")
    return render_page(
        "sign_in.html", target=find_local_path(request.args.get("next", "/")), message=message
    )


@pages.post(SIGN_IN_PATH)
@require_scope(ANY)
def sign_in() -> AnyResponse:
    """Check a key, set the cookie, and go to the page that was asked for."""
    if not is_same_origin():
        return make_problem(403, "requests from another origin are not allowed")
    secret = request.form.get("key", "").strip()
    target = find_local_path(request.form.get("next", "/"))
    if not secret or len(secret) > MAX_SECRET_CHARS:
        return ask_for_key(target, "empty")
    authenticator = current_gateway().authenticator
    checked = authenticator.check_secret(secret, request.remote_addr or "")
    if isinstance(checked, Principal):
        return authenticator.sign_in(checked, secret, target)
    return ask_for_key(target, "often" if checked.status_code == 429 else "wrong")


@pages.post("/sign-out")
@require_scope(ANY)
def sign_out() -> AnyResponse:
    """Drop the cookie."""
    response = redirect(SIGN_IN_PATH, 303)
    response.delete_cookie(SESSION_COOKIE, path="/", httponly=True, samesite="Strict")
    return response


def ask_for_key(target: str, refused: str = "") -> AnyResponse:
    """Redirect to the form.

    target: the page to show afterwards.
    refused: why a key was refused, one of `MESSAGES`.
    """
    query = {"next": target} | ({"refused": refused} if refused else {})
    return redirect(f"{SIGN_IN_PATH}?{urlencode(query)}", 303)


def find_local_path(target: str) -> str:
    """The path on this host that somebody asked for; `/` if it is none."""
    path, _, query = target.partition("?")
    # one slash: a path that starts with two would be read as another host
    local = "/" + quote(path.lstrip("/\\"), safe="/-._~")
    return local + ("?" + quote(query, safe="=&%-._~+:,") if query else "")
