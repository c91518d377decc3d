"""/models: the declared models."""

from __future__ import annotations

from flask import Response
from werkzeug.wrappers import Response as AnyResponse

from services.gateway.console import _declarations as declarations
from services.gateway.console._pages import make_pages
from shared.jobs.declarations import Kind

pages = make_pages("models")


@pages.get("/models")
def show_list() -> Response:
    """All of them."""
    return declarations.show_list(Kind.MODEL)


@pages.get("/models/<name>")
def show_newest(name: str) -> Response:
    """The newest version of a model."""
    return declarations.show_one(Kind.MODEL, name)


@pages.get("/models/<name>/versions/<version>")
def show_version(name: str, version: str) -> Response:
    """One version."""
    return declarations.show_one(Kind.MODEL, name, version)


@pages.post("/models/<name>/versions/<version>/labels")
def change_labels(name: str, version: str) -> AnyResponse:
    """Replace the labels of one version."""
    return declarations.change_labels(Kind.MODEL, name, version)


@pages.get("/models/<name>/delete")
def ask_deletion(name: str) -> Response:
    """What would be deleted."""
    return declarations.ask_deletion(Kind.MODEL, name)


@pages.post("/models/<name>/delete")
def delete(name: str) -> Response:
    """Delete one version, or all of them."""
    return declarations.delete(Kind.MODEL, name)
