"""Every route of the gateway has a scope, and what concerns the operator needs `admin`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.gateway.scopes import ANY, find_scope, require_scope
from shared.jobs.keys import ADMIN, READ, SCOPES, SUBMIT
from tests.support.gateway import GatewayInProcess


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayInProcess]:
    made = GatewayInProcess(tmp_path)
    yield made
    made.close()


# Every other route has the default: read for GET and HEAD, submit for the rest.
DECLARED = {
    ("GET", "/v1/me"): ANY,
    ("GET", "/v1/keys"): ADMIN,
    ("POST", "/v1/keys"): ADMIN,
    ("POST", "/v1/keys/<key_id>/revoke"): ADMIN,
    ("GET", "/v1/tenants"): ADMIN,
    ("POST", "/v1/tenants"): ADMIN,
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


def test_a_scope_that_does_not_exist_cannot_be_declared() -> None:
    with pytest.raises(ValueError, match="no scope root"):
        require_scope("root")
