"""Routes reach the job store only as the tenant of their request sees it (`TenantStore`): a route
cannot forget whose things it may show. What serves the operator or no tenant in particular is named
here."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.source_tree import ROOT

GATEWAY = ROOT / "services/gateway"
WHOLE_STORE = {
    "__main__.py": "checks the schema before it serves",
    "access_logging.py": "writes the log of all tenants",
    "api/health.py": "checks that the store answers",
    "api/keys.py": "serves the operator",
    "api/tenants.py": "serves the operator",
    "api/workers.py": "queues and workers belong to all",
    "app.py": "hands it to auth",
    "asgi.py": "opens it",
    "auth.py": "finds keys, and binds it to the tenant of the request",
    "bridge.py": "hands it to the event poller, and closes it",
    "catalog_cache.py": "the catalog belongs to all",
    "clock.py": "reads its clock",
    "console/home.py": "queues and workers belong to all",
    "console/live.py": "follows what a page has shown to its tenant",
    "console/keys.py": "serves the operator",
    "console/tenants.py": "serves the operator",
    "console/troubles.py": "pauses and workers belong to all",
    "console/workers.py": "workers belong to all",
    "credentials.py": "looks whether there is any key",
    "deps.py": "holds it",
    "operator_actions.py": "serves the operator",
    "queue_counts.py": "counts the jobs of whoever asks",
    "queue_reading.py": "queues and workers belong to all",
    "revision_stream.py": "follows what a page has shown to its tenant",
    "stream_poller.py": "hands it to what is followed",
    "quota_cache.py": "reads the quotas of whoever asks",
    "monitoring/monitor.py": "metrics are of all tenants",
    "monitoring/request_counts.py": "adds to counts that are of all tenants",
    "job_events.py": "follows jobs that a route has shown to their tenant",
    "key_cache.py": "finds keys before there is a tenant",
    "key_watch.py": "asks whether the key of a response is still valid",
    "sessions.py": "has the secret of all tenants' cookies",
}
NAMES = {"db", "_db", "Database"}


def find_uses(source: str) -> Iterator[int]:
    """Lines that name the whole job store."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in NAMES:
            yield node.lineno
        elif isinstance(node, ast.Name | ast.arg | ast.alias):
            name = {ast.Name: "id", ast.arg: "arg", ast.alias: "name"}[type(node)]
            if getattr(node, name) in NAMES:
                yield node.lineno


def list_users(folder: Path) -> set[str]:
    """Files of the gateway that name it."""
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*.py")
        if any(find_uses(path.read_text()))
    }


def test_only_named_files_hold_the_whole_store() -> None:
    assert list_users(GATEWAY) == set(WHOLE_STORE)


@pytest.mark.parametrize(
    ("source", "is_use"),
    [
        ("queries.get_job(current_gateway().deps.db, tenant, job_id)", True),
        ("current_store()._db", True),
        ("from shared.jobs.database import Database", True),
        ("def show(db, tenant): ...", True),
        ("current_store().get_job(job_id)", False),
    ],
)
def test_a_use_of_the_whole_store_is_found(source: str, is_use: bool) -> None:
    assert any(find_uses(source)) is is_use
