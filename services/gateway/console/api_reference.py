"""/openapi: the API in the console's frame, and the two browsers of its OpenAPI document.

The pages that flask-openapi makes have scripts within them, load fonts and badges from other hosts,
and link there. Its viewers are kept; the pages around them are ours.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from flask import Flask, Response, current_app

from services.gateway.auth import get_origin
from services.gateway.console._pages import render_page
from shared.errors import NotFound

# No viewer may run a script of another origin, one within the page, or text as a script.
_VIEWER_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self' data:; connect-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
# Scalar writes its styles into the page.
_SCALAR_POLICY = _VIEWER_POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
SCALAR_CONFIG = {
    "withDefaultFonts": False,
    "telemetry": False,
    "hideClientButton": True,
    "showDeveloperTools": "never",
    "agent": {"disabled": True, "hideAddApi": True},
    "mcp": {"disabled": True},
    "proxyUrl": "",
}
METHODS = ("get", "post", "patch", "delete")


@dataclass(frozen=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    summary: str
    anchor: str  # of the operation in Swagger UI


@dataclass(frozen=True)
class Group:
    """The operations of one resource."""

    name: str
    description: str
    operations: list[Operation]


def install(app: Flask) -> None:
    """Put our pages in the place of those that flask-openapi makes."""
    app.view_functions["openapi.openapi"] = show_index
    app.view_functions["swagger.swagger"] = show_swagger
    app.view_functions["swagger.oauth2-redirect"] = refuse_redirect
    app.view_functions["scalar.scalar"] = show_scalar


def list_groups(document: dict[str, Any]) -> list[Group]:
    """The operations of the document by resource, in its order."""
    by_tag: dict[str, list[Operation]] = {tag["name"]: [] for tag in document["tags"]}
    for path, methods in document["paths"].items():
        for method in (method for method in METHODS if method in methods):
            operation = methods[method]
            (tag,) = operation["tags"]
            by_tag[tag].append(
                Operation(
                    method.upper(),
                    path,
                    _summarize(operation),
                    f"/{tag}/{operation['operationId']}",
                )
            )
    return [
        Group(tag["name"], tag.get("description", ""), by_tag[tag["name"]])
        for tag in document["tags"]
    ]


def show_index() -> Response:
    """Every operation, with links into the viewers."""
    return render_page(
        "api.html",
        origin=get_origin(),
        groups=list_groups(current_app.api_doc),  # type: ignore[attr-defined]  # an OpenAPI app
    )


def show_swagger() -> Response:
    """Swagger UI, where requests can be tried."""
    return _set_policy(render_page("swagger.html"), _VIEWER_POLICY)


def show_scalar() -> Response:
    """Scalar, to read."""
    page = render_page("scalar.html", config=json.dumps(SCALAR_CONFIG))
    return _set_policy(page, _SCALAR_POLICY)


def refuse_redirect() -> Response:
    """Nobody signs in with OAuth here."""
    raise NotFound("there is no such page")


def _set_policy(response: Response, policy: str) -> Response:
    response.headers["Content-Security-Policy"] = policy
    return response


def _summarize(operation: dict[str, Any]) -> str:
    """The first sentence of what is said of an operation."""
    text = " ".join(f"{operation.get('summary', '')} {operation.get('description', '')}".split())
    # flask-openapi writes the lines of a docstring with breaks
    sentence, end, _ = text.partition("<br/>")[0].partition(". ")
    return (sentence + end).strip().replace("`", "")
