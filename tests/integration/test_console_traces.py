"""What is deleted with every trace leaves none in the access log, whichever door it came by."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.jobs import access_log
from shared.jobs.tenant_erasure import erase_tenant
from tests.support.gateway import AuthenticatedClient, GatewayInProcess
from tests.support.keys import make_client, make_key
from tests.support.servers import find_database_files

MODEL = {"model": {"name": "mlp"}, "input_shape": [3, 32, 32], "num_classes": 10}
NAME = "patient-jones"
HTML = {"Accept": "text/html"}


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayInProcess]:
    started = GatewayInProcess(tmp_path)
    yield started
    started.close()


@pytest.fixture
def acme(gateway: GatewayInProcess) -> AuthenticatedClient:
    return make_client(gateway.app, make_key(gateway.db, "acme"))


def _list_subjects(gateway: GatewayInProcess, tenant: str) -> set[str]:
    return {one.subject for one in access_log.list_entries(gateway.db, tenant=tenant).items}


def _upload(client: AuthenticatedClient) -> str:
    return str(client.post("/v1/artifacts", data=b"weights").get_json()["sha256"])


def test_a_page_that_erases_an_upload_does_not_log_its_digest(
    gateway: GatewayInProcess, acme: AuthenticatedClient
) -> None:
    digest = _upload(acme)
    assert _list_subjects(gateway, "acme") == {digest}
    answer = acme.post(f"/artifacts/{digest}/delete?derived=true", headers=HTML)
    assert answer.status_code == 200
    assert _list_subjects(gateway, "acme") == {""}


def test_a_page_that_erases_a_declaration_does_not_log_its_name(
    gateway: GatewayInProcess, acme: AuthenticatedClient
) -> None:
    declared = acme.post("/v1/models", json={"name": NAME, "weights": _upload(acme), **MODEL})
    assert declared.status_code == 202, declared.text
    gateway.make_worker().finish_all()
    assert f"{NAME}/1" in _list_subjects(gateway, "acme")
    answer = acme.post(f"/models/{NAME}/delete?derived=true", headers=HTML)
    assert answer.status_code == 200
    assert _list_subjects(gateway, "acme") == {""}


def test_a_deletion_that_keeps_what_was_made_is_logged_with_its_subject(
    gateway: GatewayInProcess, acme: AuthenticatedClient
) -> None:
    digest = _upload(acme)
    assert acme.post(f"/artifacts/{digest}/delete", headers=HTML).status_code == 200
    assert [one.subject for one in access_log.list_entries(gateway.db, limit=1).items] == [digest]


def test_a_tenant_that_was_created_on_a_page_leaves_no_name(gateway: GatewayInProcess) -> None:
    operator = make_client(gateway.app, make_key(gateway.db, "operators", "admin", "read"))
    assert operator.post("/tenants", data={"name": NAME}, headers=HTML).status_code == 303
    assert _list_subjects(gateway, "operators") == {NAME}
    erase_tenant(gateway.db, NAME, gateway.artifacts)
    assert _list_subjects(gateway, "operators") == {""}
    files = find_database_files(gateway.db)
    assert not any(NAME.encode() in file.read_bytes() for file in files)
