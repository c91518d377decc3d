"""/v1/keys: the keys of all tenants; /v1/me: the one that this request was sent with."""

from __future__ import annotations

from typing import Literal

from flask import Response, jsonify
from pydantic import BaseModel, ConfigDict, Field

from services.gateway.access_schemas import KeyView, serialize_key
from services.gateway.api._blueprint import PageQuery, make_blueprint
from services.gateway.deps import current_gateway
from services.gateway.operator_actions import create_key
from services.gateway.operator_actions import revoke_key as revoke
from services.gateway.principal import current_principal
from services.gateway.problems import document_errors
from services.gateway.schemas import format_rfc3339
from services.gateway.scopes import ANY, require_scope
from services.gateway.submission import require_id_format
from shared.jobs import keys
from shared.jobs.keys import ADMIN, KEY_ID, MAX_LIFETIME_S, MIN_LIFETIME_S

routes = make_blueprint("keys", "who may use this gateway, and for what")


class KeyPath(BaseModel):
    key_id: str = Field(description="key_...")


class KeysQuery(PageQuery):
    """Which keys."""

    tenant: str | None = Field(None, max_length=64, description="only keys of this tenant")


class KeyBody(BaseModel):
    """A new key."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    tenant: str = Field(max_length=64, description="the tenant that the key belongs to")
    label: str = Field("", max_length=100, description="what it is for")
    scopes: list[Literal["read", "submit", "admin", "worker"]] = Field(
        ["read", "submit"], min_length=1, max_length=4, description="what it may do"
    )
    lifetime_s: float | None = Field(
        None,
        ge=MIN_LIFETIME_S,
        le=MAX_LIFETIME_S,
        description="seconds until it expires; null: never",
    )


class NewKey(KeyView):
    """A key as it was created."""

    key: str = Field(description="the key itself, which is not shown again")


class KeyPage(BaseModel):
    items: list[KeyView]
    next: str | None = Field(description="token of the next page; null at the end")


class Me(BaseModel):
    """Who has sent the request."""

    tenant: str
    key_id: str | None = Field(description="null for the token of the settings")
    label: str
    scopes: list[str]
    expires_at: str | None


@routes.get("/keys", responses={200: KeyPage, **document_errors(422)})
@require_scope(ADMIN)
def list_keys(query: KeysQuery) -> Response:
    """List the keys of all tenants, newest first, including those that are no longer valid."""
    page = keys.list_keys(
        current_gateway().deps.db, tenant=query.tenant, limit=query.limit, page=query.page
    )
    return jsonify({"items": [serialize_key(key) for key in page.items], "next": page.next})


@routes.post("/keys", responses={201: NewKey, **document_errors(400, 413, 415, 422)})
@require_scope(ADMIN)
def post_key(body: KeyBody) -> Response:
    """Create a key for a tenant. Only this response contains it."""
    key, secret = create_key(body.tenant, body.label, set(body.scopes), body.lifetime_s)
    response = jsonify({**serialize_key(key), "key": secret})
    response.status_code = 201
    return response


@routes.post("/keys/<key_id>/revoke", responses={200: KeyView, **document_errors(404, 409)})
@require_scope(ADMIN)
def revoke_key(path: KeyPath) -> Response:
    """Revoke a key permanently, within seconds. Repeatable.

    409 if no valid key with the scope `admin` would be left and the gateway has no token.
    """
    return jsonify(serialize_key(revoke(require_id_format(path.key_id, KEY_ID, "key"))))


@routes.get("/me", responses={200: Me})
@require_scope(ANY)
def get_me() -> Response:
    """Show which key this request was sent with, and what it may do."""
    principal = current_principal()
    return jsonify(
        {
            "tenant": principal.tenant,
            "key_id": principal.key,
            "label": principal.label,
            "scopes": sorted(principal.scopes),
            "expires_at": format_rfc3339(principal.expires_at),
        }
    )
