"""/keys: who may use this gateway, and for what."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from services.gateway.console._pages import make_pages, render_page
from services.gateway.deps import current_gateway
from services.gateway.operator_actions import create_key
from services.gateway.operator_actions import revoke_key as revoke
from services.gateway.scopes import require_scope
from services.gateway.submission import require_id_format
from shared.errors import InvalidRequest
from shared.jobs import keys, tenants
from shared.jobs.keys import ADMIN, KEY_ID, LABEL, SCOPES
from shared.jobs.retention import DAY_S

pages = make_pages("keys")

PAGE_SIZE = 50
MAX_TENANTS = 200  # offered in the form; another one can be typed
LIFETIMES: Mapping[str, tuple[str, float | None]] = {
    "7": ("7 days", 7 * DAY_S),
    "30": ("30 days", 30 * DAY_S),
    "90": ("90 days", 90 * DAY_S),
    "365": ("a year", 365 * DAY_S),
    "": ("never", None),
}
MEANINGS = {
    "read": "see everything of its tenant",
    "submit": "submit, cancel and delete; upload and declare",
    "admin": "manage keys, tenants, workers and stages",
    "worker": "for worker processes",
}


@pages.get("/keys")
@require_scope(ADMIN)
def show_list() -> Response:
    """The keys of all tenants or one, and a form for another."""
    return _render()


@pages.post("/keys")
@require_scope(ADMIN)
def create() -> Response:
    """Create a key and show it, which happens in this response only."""
    form = request.form
    tenant, label = form.get("tenant", "").strip(), form.get("label", "").strip()
    scopes = form.getlist("scopes")
    lifetime = form.get("lifetime", "")
    try:
        if not LABEL.fullmatch(label):
            raise InvalidRequest("A label has at most 100 characters, on one line.", "label")
        if not scopes or not set(scopes) <= set(SCOPES):
            raise InvalidRequest("Choose at least one.", "scopes")
        if lifetime not in LIFETIMES:
            raise InvalidRequest("Choose one of these.", "lifetime")
        if not tenant or tenants.clean_name(tenant) != tenant:
            raise InvalidRequest("Enter the name of a tenant.", "tenant")
        key, secret = create_key(tenant, label, set(scopes), LIFETIMES[lifetime][1])
    except InvalidRequest as error:
        return _render({error.field: error.message})
    return render_page("new_key.html", 201, key=key, secret=secret)


def _render(errors: Mapping[str, str] | None = None) -> Response:
    """The page; with what is wrong with the form, which keeps what was typed."""
    db = current_gateway().deps.db
    tenant = tenants.clean_name(request.args.get("tenant", ""))
    listed = keys.list_keys(
        db, tenant=tenant or None, limit=PAGE_SIZE, page=request.args.get("page") or None
    )
    return render_page(
        "keys.html",
        422 if errors else 200,
        listed=listed,
        tenants=tenants.list_tenants(db, limit=MAX_TENANTS)[0],
        tenant=tenant,
        filters={"tenant": tenant} if tenant else {},
        is_first="page" not in request.args,
        errors=errors or {},
        form=request.form,
        chosen_scopes=request.form.getlist("scopes") if errors else ["read", "submit"],
        lifetimes={value: text for value, (text, _) in LIFETIMES.items()},
        scopes=MEANINGS,
    )


@pages.get("/keys/<key_id>/revoke")
@require_scope(ADMIN)
def ask_revocation(key_id: str) -> Response:
    """Ask before a key is revoked."""
    key = keys.get_key(current_gateway().deps.db, require_id_format(key_id, KEY_ID, "key"))
    return render_page("revocation.html", key=key)


@pages.post("/keys/<key_id>/revoke")
@require_scope(ADMIN)
def revoke_key(key_id: str) -> AnyResponse:
    """Revoke a key for good."""
    revoke(require_id_format(key_id, KEY_ID, "key"))
    return redirect("/keys", 303)
