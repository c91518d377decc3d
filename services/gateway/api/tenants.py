"""/v1/tenants: tenants and their quotas."""

from __future__ import annotations

from typing import Annotated

from flask import Response, jsonify
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from services.gateway.access_schemas import QuotasView, TenantView, serialize_tenant
from services.gateway.api._blueprint import Query, make_blueprint
from services.gateway.deps import current_gateway
from services.gateway.operator_actions import create_tenant
from services.gateway.problems import document_errors
from services.gateway.scopes import require_scope
from shared.jobs import tenants
from shared.jobs.keys import ADMIN
from shared.jobs.quotas import Quotas
from shared.jobs.tenants import NAME_FORMAT

routes = make_blueprint("tenants", "tenants and their quotas")

TenantName = Annotated[str, StringConstraints(pattern=rf"^{NAME_FORMAT}$")]


class TenantBody(BaseModel):
    """A new tenant."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: TenantName
    quotas: QuotasView = QuotasView()


class TenantsQuery(Query):
    limit: int = Field(50, ge=1, le=200, description="page size")
    after: TenantName | None = Field(None, description="`next` of the previous page")


class TenantPage(BaseModel):
    items: list[TenantView]
    next: str | None = Field(description="`after` of the next page; null at the end")


@routes.get("/tenants", responses={200: TenantPage, **document_errors(422)})
@require_scope(ADMIN)
def list_tenants(query: TenantsQuery) -> Response:
    """List tenants by name."""
    items, after = tenants.list_tenants(
        current_gateway().deps.db, after=query.after or "", limit=query.limit
    )
    return jsonify({"items": [serialize_tenant(one) for one in items], "next": after})


@routes.post("/tenants", responses={201: TenantView, **document_errors(400, 409, 413, 415, 422)})
@require_scope(ADMIN)
def post_tenant(body: TenantBody) -> Response:
    """Create a tenant. 409 if it exists."""
    created = create_tenant(body.name, Quotas(**body.quotas.model_dump()))
    response = jsonify(serialize_tenant(created))
    response.status_code = 201
    return response
