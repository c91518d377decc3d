"""How every resource file makes its blueprint."""

from __future__ import annotations

from flask_openapi.blueprint import APIBlueprint
from pydantic import BaseModel, ConfigDict, Field

from services.gateway.problems import documented
from shared.jobs.reads import PAGE_TOKEN


def blueprint(name: str, about: str) -> APIBlueprint:
    """Routes under /v1 that need the bearer token."""
    return APIBlueprint(
        name,
        __name__,
        url_prefix="/v1",
        abp_tags=[{"name": name, "description": about}],
        abp_security=[{"bearer": []}],
        abp_responses=documented(422),
    )


class Query(BaseModel):
    """Base of query parameters: a misspelt one is told, not ignored."""

    model_config = ConfigDict(extra="forbid")


class PageQuery(Query):
    """A page, newest first."""

    limit: int = Field(50, ge=1, le=200, description="how many")
    page: str | None = Field(None, pattern=PAGE_TOKEN, description="`next` of the page before")
