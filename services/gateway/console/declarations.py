"""/models and /datasets: what is declared of one kind."""

from __future__ import annotations

from flask import Blueprint, Response
from werkzeug.wrappers import Response as AnyResponse

from services.gateway.console import _declarations
from services.gateway.console._pages import make_pages
from shared.jobs.declarations import Kind


def make_kind_pages(kind: Kind) -> Blueprint:
    """The pages of models, or of data sets."""
    pages = make_pages(f"{kind}s")

    @pages.get(f"/{kind}s")
    def show_list() -> Response:
        """All of them."""
        return _declarations.show_list(kind)

    @pages.get(f"/{kind}s/<name>")
    def show_newest(name: str) -> Response:
        """The newest version."""
        return _declarations.show_one(kind, name)

    @pages.get(f"/{kind}s/<name>/versions/<version>")
    def show_version(name: str, version: str) -> Response:
        """One version."""
        return _declarations.show_one(kind, name, version)

    @pages.post(f"/{kind}s/<name>/versions/<version>/labels")
    def change_labels(name: str, version: str) -> AnyResponse:
        """Replace the labels of one version."""
        return _declarations.change_labels(kind, name, version)

    @pages.get(f"/{kind}s/<name>/delete")
    def ask_deletion(name: str) -> Response:
        """What would be deleted."""
        return _declarations.ask_deletion(kind, name)

    @pages.post(f"/{kind}s/<name>/delete")
    def delete(name: str) -> Response:
        """Delete one version, or all of them."""
        return _declarations.delete(kind, name)

    return pages


MODELS, DATASETS = make_kind_pages(Kind.MODEL), make_kind_pages(Kind.DATASET)
