"""A catalog is published by workers, and what stands in the database is not trusted to be one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select
from structlog.testing import capture_logs

from shared.jobs.tables import catalogs
from tests.support.gateway import GatewayInProcess, make_catalog


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayInProcess]:
    made = GatewayInProcess(tmp_path)
    yield made
    made.close()


@pytest.fixture
def elsewhere() -> Iterator[tuple[str, list[str]]]:
    """The address of a server that must not be asked, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"type": "object"}')

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def write(gateway: GatewayInProcess, body: str, n: int = 0) -> None:
    """A row beside the workers' own, later than theirs and than those with a lower `n`."""
    with gateway.db.write() as connection:
        row = {"digest": str(n) * 64, "body": body, "published_at": 2.0**40 + n}
        connection.execute(insert(catalogs).values(**row))


def poisoned(**schema: Any) -> str:
    entry = {
        "kind": "stage",
        "name": "evil",
        "summary": "Waits.",
        "params_schema": {"type": "object", **schema},
    }
    return json.dumps([*make_catalog().to_json(), entry])


def test_no_reference_of_a_catalog_is_fetched(gateway, elsewhere, tmp_path):
    url, asked = elsewhere
    (tmp_path / "schema.json").write_text("{}")
    for n, ref in enumerate([f"{url}/schema.json", f"file://{tmp_path}/schema.json"]):
        write(gateway, poisoned(properties={"a": {"$ref": ref}}), n)
        with capture_logs() as logs:
            answer = gateway.http.post("/v1/jobs", json={"stage": "evil", "params": {"a": 1}})
            assert gateway.post()["stage"] == "sleep"
        assert (answer.status_code, answer.get_json()["field"]) == (422, "stage")
        assert any(
            "the parameters of stage evil: properties.a.$ref" in entry.get("error", "")
            for entry in logs
        )
    assert asked == []


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{}",
        "[" * 100_000,
        "[7]",
        "x" * (2**22 + 1),
        poisoned(patternProperties={"(a+)+$": {}}),
        poisoned(type="?"),
    ],
    ids=["empty", "object", "deep", "number", "long", "patterns", "type"],
)
def test_what_is_no_catalog_is_passed_over_for_the_one_before(gateway, body):
    write(gateway, body)
    assert gateway.http.get("/v1/catalog").get_json()["digest"] == make_catalog().digest
    assert gateway.post()["stage"] == "sleep"


def test_only_a_catalog_that_is_wrong_is_as_if_there_were_none(tmp_path):
    gateway = GatewayInProcess(tmp_path, publish=False)
    write(gateway, "[7]")
    assert gateway.http.get("/v1/catalog").get_json() == {"digest": None, "kinds": {}}
    gateway.close()


@pytest.mark.timeout(600)
def test_a_pattern_of_a_catalog_is_not_run(gateway):
    write(gateway, poisoned(properties={"word": {"type": "string", "pattern": "^(a+)+$"}}))
    assert gateway.post({"stage": "evil", "params": {"word": "a" * 60 + "!"}})["stage"] == "evil"


def test_no_route_publishes_a_catalog(gateway):
    """Workers publish, through the database. The token that posts audits must not change what they
    are."""

    def rows() -> list[Any]:
        with gateway.db.read() as connection:
            return [tuple(row) for row in connection.execute(select(catalogs))]

    before, tried = rows(), 0
    for rule in gateway.app.url_map.iter_rules():
        path = str(rule).replace("<", "").replace(">", "").replace("path:", "")
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            for body in (
                make_catalog().to_json(),
                {"catalog": make_catalog(code="2").to_json(), "digest": "e" * 64},
            ):
                gateway.http._send(method, path, json=body)
                tried += 1
    assert tried > 200
    assert rows() == before
