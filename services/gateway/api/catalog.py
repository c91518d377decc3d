"""/v1/catalog: the plugins that workers have published."""

from __future__ import annotations

from typing import Any

from flask import Response
from pydantic import BaseModel, Field

from services.gateway.api._blueprint import Query, make_blueprint
from services.gateway.deps import current_gateway
from services.gateway.problems import document_errors
from services.gateway.responses import respond_with_digest_etag
from shared.catalog import CatalogEntry

routes = make_blueprint("catalog", "the plugins that workers have published")


class CatalogQuery(Query):
    kind: str | None = Field(
        None, max_length=64, description="only this kind: stage, attack, dataset, ..."
    )


class CatalogView(BaseModel):
    digest: str | None = Field(description="null before any worker has started")
    kinds: dict[str, list[CatalogEntry]]


@routes.get("/catalog", responses={200: CatalogView, 304: None, **document_errors(422)})
def get_catalog(query: CatalogQuery) -> Response:
    """List all stages, methods, data sets, models and metrics, with the JSON Schema of their
    parameters."""
    digest, catalog = current_gateway().catalog_cache.current()
    kinds: dict[str, list[dict[str, Any]]] = {}
    for entry in catalog:
        if query.kind in (None, entry.kind):
            kinds.setdefault(entry.kind, []).append(entry.model_dump(mode="json"))
    return respond_with_digest_etag({"digest": digest, "kinds": kinds})
