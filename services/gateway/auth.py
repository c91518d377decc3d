"""Authentication: a key or the token on every route but the two probes, and the scope that the
route needs.

Both are sent as a bearer token. A browser cannot send one, so it opens a URL with `?token=...` once,
as with Jupyter. The response sets a cookie (HttpOnly, SameSite=Strict) and redirects to the same page
without the secret. The cookie contains a value that names the key or the token, never either.
"""

from __future__ import annotations

import hmac
from urllib.parse import quote

from flask import Flask, Response, current_app, g, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from services.gateway.credentials import get_token
from services.gateway.failure_limiter import FailureLimiter
from services.gateway.key_cache import KeyCache
from services.gateway.key_watch import KEY_KEY
from services.gateway.principal import Principal
from services.gateway.problems import make_problem
from services.gateway.scopes import ANY, READ_METHODS, find_scope
from services.gateway.sessions import SESSION_COOKIE, SESSION_S, KeySessions, derive_session
from shared.config import Settings
from shared.jobs.database import Database
from shared.jobs.keys import SECRET, Key
from shared.jobs.tenant_store import TenantStore

PUBLIC_PATHS = frozenset({"/livez", "/readyz"})  # the probes
SIGN_IN_PATH = "/sign-in"
ASSETS_PREFIX = "/assets/"
# bodies of other methods have no meaning and are not read
METHODS_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
MAX_PUBLIC_BODY_BYTES = 16 << 10  # read before it is known who sends them
METRICS_PATH = "/metrics"
ORIGIN_KEY = "PALIMPSEST_ORIGIN"  # in the app's configuration
WRONG = "the key or token is not valid"
EXPIRED = "the key has expired"
FOREIGN_LINK = "a link on another site cannot sign you in: paste it into the address bar, or sign in at /sign-in"
MISSING = "send the header `Authorization: Bearer KEY`, or open the page with ?token=KEY"


class Authenticator:
    """Finds out who sends a request."""

    def __init__(self, db: Database, settings: Settings) -> None:
        self._token = get_token(settings)
        self._token_session = derive_session(self._token) if self._token else ""
        self._token_principal = Principal.from_token(settings.tenant)
        self._keys = KeyCache(db)
        self._sessions = KeySessions(db)
        self._failures = FailureLimiter(settings.max_failed_keys_per_minute)

    def check_secret(self, secret: str, address: str) -> Principal | Response:
        """Who has this key or token, or the answer to a wrong one. An address that has sent too many
        wrong ones costs no look-up, unless it sends one that was right before.

        Raises:
            TransientError: the job store does not answer.
        """
        if self._token and _secrets_match(secret, self._token):
            return self._token_principal
        has_form = SECRET.fullmatch(secret) is not None
        if not (has_form and self._keys.is_known(secret)):
            retry_after_s = self._failures.find_retry_after_s(address)
            if retry_after_s is not None:
                return make_problem(
                    429,
                    f"too many wrong keys from your address: try again in {retry_after_s} s",
                    headers={"Retry-After": str(retry_after_s)},
                )
        key = self._keys.find_by_secret(secret) if has_form else None
        if key is not None and key.is_valid:
            return Principal.from_key(key)
        self._failures.record(address)
        return _reject_key(key)

    def check_cookie(self, value: str) -> Principal | Response:
        """Who has signed in with this cookie, or the answer to a wrong one. Raises TransientError."""
        if self._token and _secrets_match(value, self._token_session):
            return self._token_principal
        key_id = self._sessions.read(value)
        if key_id is None:
            return _reject_unauthenticated(MISSING)
        key = self._keys.find_by_id(key_id)
        if key is None or not key.is_valid:
            return _reject_key(key)
        return Principal.from_key(key)

    def sign_in(self, principal: Principal, secret: str, target: str) -> AnyResponse:
        """Set the cookie, which ends with the key, and redirect to the page `target`."""
        lifetime_s, value = float(SESSION_S), self._token_session
        if principal.key is not None:
            value = self._sessions.sign(principal.key)
            key = self._keys.find_by_secret(secret)
            if key is not None and key.expires_in_s is not None:
                lifetime_s = min(lifetime_s, max(1.0, key.expires_in_s))
        response = redirect(target, 303)
        response.set_cookie(
            SESSION_COOKIE,
            value,
            max_age=int(lifetime_s),
            httponly=True,
            samesite="Strict",
            secure=get_origin().startswith("https:"),
            path="/",
        )
        return response


def is_public(path: str) -> bool:
    """Whether a path needs no key: a probe, the form to sign in, or a file that is the same for
    everyone."""
    return path in PUBLIC_PATHS or path == SIGN_IN_PATH or path.startswith(ASSETS_PREFIX)


def install(app: Flask, settings: Settings, db: Database, authenticator: Authenticator) -> None:
    """Check before anything else happens who sends a request."""
    app.config[ORIGIN_KEY] = settings.public_url

    @app.before_request
    def _authenticate() -> AnyResponse | None:
        if is_public(request.path):
            return _refuse_large_body()
        if _is_scrape(settings):
            return _accept(Principal.from_metrics_token(settings.tenant))
        address = request.remote_addr or ""
        scheme, _, presented = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return _accept(authenticator.check_secret(presented.strip(), address))
        if request.method == "GET" and "token" in request.args:
            if request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site"):
                # another site could sign its visitor in with a key of its own, and read what follows
                return make_problem(403, FOREIGN_LINK)
            secret = request.args["token"]
            checked = authenticator.check_secret(secret, address)
            if isinstance(checked, Principal):
                # one slash: a path that starts with two would be read as another host
                target = "/" + quote(request.path.lstrip("/\\"))
                return authenticator.sign_in(checked, secret, target)
            return checked
        rejection = _accept(authenticator.check_cookie(request.cookies.get(SESSION_COOKIE, "")))
        if rejection is None and request.method not in READ_METHODS and not is_same_origin():
            return make_problem(403, "requests from another origin are not allowed")
        return rejection

    def _accept(checked: Principal | Response) -> Response | None:
        if isinstance(checked, Response):
            return checked
        # a key has a tenant; what the token is for may be a name that is none
        g.principal, g.store = checked, TenantStore(db, checked.tenant, checked.key is not None)
        request.environ[KEY_KEY] = checked.key
        return None


def install_scopes(app: Flask) -> None:
    """Check whether who sends a request may do this. To be installed after `install`."""

    @app.before_request
    def _check_scope() -> AnyResponse | None:
        if is_public(request.path) or request.endpoint is None:
            return None
        scope = find_scope(app, request.endpoint, request.method)
        if scope == ANY or scope in g.principal.scopes:
            return None
        return make_problem(
            403,
            f"this request needs the scope {scope}, which your key does not have",
        )


def _refuse_large_body() -> Response | None:
    """Who has no key sends no large body."""
    is_bounded = request.method not in METHODS_WITH_BODY or request.content_length is not None
    if is_bounded and (request.content_length or 0) <= MAX_PUBLIC_BODY_BYTES:
        return None
    return make_problem(413, f"send at most {MAX_PUBLIC_BODY_BYTES} bytes, with a Content-Length")


def _secrets_match(presented: str, expected: str) -> bool:
    return hmac.compare_digest(presented.encode("utf-8", "surrogatepass"), expected.encode())


def _is_scrape(settings: Settings) -> bool:
    """Whether the request reads /metrics with the token that opens nothing else."""
    expected = settings.metrics_token.get_secret_value().strip() if settings.metrics_token else ""
    scheme, _, presented = request.headers.get("Authorization", "").partition(" ")
    return (
        bool(expected)
        and request.path == METRICS_PATH
        and request.method in READ_METHODS
        and scheme.lower() == "bearer"
        and _secrets_match(presented.strip(), expected)
    )


def is_same_origin() -> bool:
    """Whether a page of this origin sent the request. Cookies are shared between ports: without
    this check, a page that another program serves on this host would be accepted."""
    origin = request.headers.get("Origin")
    if origin is not None:
        return origin == get_origin()
    return request.headers.get("Sec-Fetch-Site") in ("same-origin", "none")


def get_origin() -> str:
    """The origin of our pages. The gateway speaks plain HTTP, so behind a proxy with TLS the request
    does not say it."""
    configured: str | None = current_app.config[ORIGIN_KEY]
    return configured or request.host_url.rstrip("/")


def _reject_key(key: Key | None) -> Response:
    """The same answer to a key that never was, was revoked, or is of a disabled tenant. That it has
    expired may be said to who holds it."""
    is_expired = key is not None and key.state == "expired"
    return _reject_unauthenticated(EXPIRED if is_expired else WRONG)


def _reject_unauthenticated(detail: str) -> Response:
    return make_problem(401, detail, headers={"WWW-Authenticate": 'Bearer realm="palimpsest"'})
