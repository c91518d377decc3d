"""Every route of the gateway has a scope, and what concerns the operator needs `admin`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.gateway.scopes import ANY, find_scope, require_scope
from shared.jobs.keys import ADMIN, READ, SCOPES, SUBMIT
from tests.support.gateway import GatewayInProcess
from tests.support.source_tree import ROOT


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayInProcess]:
    made = GatewayInProcess(tmp_path)
    yield made
    made.close()


# Every other route has the default: read for GET and HEAD, submit for the rest.
DECLARED = {
    ("GET", "/assets/<path:filename>"): ANY,
    ("GET", "/audits/new"): SUBMIT,
    ("GET", "/sign-in"): ANY,
    ("POST", "/sign-in"): ANY,
    ("POST", "/sign-out"): ANY,
    # pages that only ask whether something is to be changed
    ("GET", "/audits/<audit_id>/labels"): SUBMIT,
    ("GET", "/audits/<audit_id>/delete"): SUBMIT,
    ("GET", "/jobs/cancel"): SUBMIT,
    ("GET", "/keys"): ADMIN,
    ("POST", "/keys"): ADMIN,
    ("GET", "/keys/<key_id>/revoke"): ADMIN,
    ("POST", "/keys/<key_id>/revoke"): ADMIN,
    ("GET", "/tenants"): ADMIN,
    ("POST", "/tenants"): ADMIN,
    ("POST", "/stages/<stage>/pause"): ADMIN,
    ("POST", "/stages/<stage>/resume"): ADMIN,
    ("POST", "/workers/<worker_id>/drain"): ADMIN,
    ("POST", "/workers/<worker_id>/undrain"): ADMIN,
    ("GET", "/v1/me"): ANY,
    ("GET", "/v1/keys"): ADMIN,
    ("POST", "/v1/keys"): ADMIN,
    ("POST", "/v1/keys/<key_id>/revoke"): ADMIN,
    ("GET", "/v1/tenants"): ADMIN,
    ("POST", "/v1/tenants"): ADMIN,
    ("GET", "/metrics"): ADMIN,
    ("POST", "/v1/queues/<stage>/pause"): ADMIN,
    ("POST", "/v1/queues/<stage>/resume"): ADMIN,
    ("POST", "/v1/workers/<worker_id>/drain"): ADMIN,
    ("POST", "/v1/workers/<worker_id>/undrain"): ADMIN,
}


def test_every_route_declares_or_derives_a_scope(gateway: GatewayInProcess) -> None:
    scopes = {
        (method, rule.rule): find_scope(gateway.app, rule.endpoint, method)
        for rule in gateway.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert len(scopes) > 40
    assert set(scopes.values()) <= {*SCOPES, ANY}
    default = {route: READ if route[0] == "GET" else SUBMIT for route in scopes}
    assert scopes == default | DECLARED


def find_plain_calls(source: str) -> list[int]:
    """Lines on which `require_scope` is called and its decorator thrown away: that checks nothing."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
        if "require_scope" in ast.unparse(node.value.func)
    ]


def test_a_scope_is_declared_by_a_decorator() -> None:
    files = sorted((ROOT / "services/gateway/api").glob("*.py"))
    assert len(files) > 10
    assert {path.name: find_plain_calls(path.read_text()) for path in files} == {
        path.name: [] for path in files
    }
    assert find_plain_calls("def f():\n    scopes.require_scope('admin')\n") == [2]


def test_a_scope_that_does_not_exist_cannot_be_declared() -> None:
    with pytest.raises(ValueError, match="no scope root"):
        require_scope("root")
