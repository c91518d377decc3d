"""/v1/catalog: what can be asked for, as the workers published it."""

from __future__ import annotations

from typing import Any

from flask import Response
from pydantic import BaseModel, Field

from services.gateway.answers import by_content
from services.gateway.api._blueprint import Query, blueprint
from services.gateway.deps import gateway
from services.gateway.problems import documented
from shared.catalog import Entry

routes = blueprint("catalog", "what can be asked for, as the workers published it")


class CatalogQuery(Query):
    kind: str | None = Field(None, max_length=64, description="only this kind: stage, attack, dataset, ...")


class CatalogView(BaseModel):
    digest: str | None = Field(description="null before any worker has started")
    kinds: dict[str, list[Entry]]


@routes.get("/catalog", responses={200: CatalogView, 304: None, **documented(422)})
def get_catalog(query: CatalogQuery) -> Response:
    """See every stage, method, data set, model and metric there is, with the JSON Schema of its parameters."""
    digest, catalog = gateway().catalog.current()
    kinds: dict[str, list[dict[str, Any]]] = {}
    for entry in catalog:
        if query.kind in (None, entry.kind):
            kinds.setdefault(entry.kind, []).append(entry.model_dump(mode="json"))
    return by_content({"digest": digest, "kinds": kinds})
