"""What all resources share: their blueprint and query parameters."""

from __future__ import annotations

from flask_openapi.blueprint import APIBlueprint
from pydantic import BaseModel, ConfigDict, Field

from services.gateway.problems import document_errors
from shared.jobs.paging import PAGE_TOKEN


def make_blueprint(name: str, description: str) -> APIBlueprint:
    """Routes under /v1 that need the bearer token."""
    return APIBlueprint(
        name,
        __name__,
        url_prefix="/v1",
        abp_tags=[{"name": name, "description": description}],
        abp_security=[{"bearer": []}],
        abp_responses=document_errors(422),
    )


class Query(BaseModel):
    """Base of query parameters: an unknown one is an error, not ignored."""

    model_config = ConfigDict(extra="forbid")


class PageQuery(Query):
    """A page, newest first."""

    limit: int = Field(50, ge=1, le=200, description="page size")
    page: str | None = Field(None, pattern=PAGE_TOKEN, description="`next` of the previous page")
