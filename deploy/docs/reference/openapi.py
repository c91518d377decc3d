"""The gateway's OpenAPI document and the scope of each route, from an application without a job."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from services.gateway.app import create_app
from services.gateway.deps import GatewayDeps
from services.gateway.scopes import find_scope
from shared.artifacts import ArtifactStore
from shared.config import Settings
from shared.jobs.database import Database
from shared.jobs.queue import InMemoryWakeup, WakeupSender
from shared.jobs.tables import metadata

METHODS = ("get", "post", "put", "patch", "delete")


@cache
def _make() -> tuple[dict[str, Any], dict[tuple[str, str], str]]:
    """The document, and the scope by path and method."""
    db = Database("sqlite://")
    with db.write() as connection:
        metadata.create_all(connection)
    sender = WakeupSender(InMemoryWakeup())
    # a broker that is not there: nothing is sent
    settings = Settings(token="documentation", broker_url="redis://127.0.0.1:1/0")  # noqa: S106 - opens nothing
    app = create_app(GatewayDeps(db, ArtifactStore.from_url("memory://"), sender, settings))
    scopes = {
        (rule.rule.replace("<", "{").replace(">", "}"), method.lower()): find_scope(
            app, rule.endpoint, method
        )
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
    }
    document: dict[str, Any] = app.api_doc
    sender.close()
    db.close()
    return document, scopes


def load_openapi() -> dict[str, Any]:
    """The OpenAPI document."""
    return _make()[0]


def get_scope(path: str, method: str) -> str:
    """The scope that a route needs."""
    return _make()[1][path, method]


def iter_operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, method and operation."""
    for path, operations in load_openapi()["paths"].items():
        for method in METHODS:
            if method in operations:
                yield path, method, operations[method]
