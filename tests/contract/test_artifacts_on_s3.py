"""Artifacts on S3 over http: refused with the name of the setting, and stored once it is set."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from services import admin
from services.gateway.__main__ import main as run_gateway
from shared.artifacts import ArtifactStore
from shared.errors import InvalidRequest, NotFound


class BucketHandler(BaseHTTPRequestHandler):
    """Answers as S3 does to one client: GET, and PUT that fails if the key exists."""

    objects: dict[str, bytes]

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("If-None-Match") == "*" and self.path in self.objects:
            self.respond(412)
            return
        self.objects[self.path] = data
        self.respond(200)

    def do_GET(self) -> None:
        data = self.objects.get(self.path)
        self.respond(404 if data is None else 200, data or b"")

    def respond(self, status: int, data: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Mon, 30 Nov 2026 00:00:00 GMT")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """The objects of a server that AWS_ENDPOINT_URL names."""
    objects: dict[str, bytes] = {}
    handler = type("Handler", (BucketHandler,), {"objects": objects})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("PALIMPSEST_ARTIFACTS_URL", "s3://bucket")
    monkeypatch.delenv("AWS_ALLOW_HTTP", raising=False)
    yield objects
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("value", [None, "false"])
def test_http_is_refused_and_the_doctor_names_the_setting(
    endpoint: dict[str, bytes],
    value: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    if value is not None:
        monkeypatch.setenv("AWS_ALLOW_HTTP", value)
    with pytest.raises(InvalidRequest, match="AWS_ENDPOINT_URL is an http:// address"):
        ArtifactStore.from_url("s3://bucket")
    monkeypatch.setenv("PALIMPSEST_DATABASE_URL", f"sqlite:///{tmp_path}/p.db")
    monkeypatch.setenv("PALIMPSEST_TOKEN", "token")
    assert admin.main(["migrate"]) == 0
    assert run_gateway([]) == 2
    assert "set AWS_ALLOW_HTTP=true" in capsys.readouterr().err
    admin.main(["doctor"])
    (line,) = (one for one in capsys.readouterr().out.splitlines() if "FAIL artifacts" in one)
    assert "set AWS_ALLOW_HTTP=true" in line
    assert endpoint == {}


def test_with_the_setting_artifacts_are_stored_there(
    endpoint: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    store = ArtifactStore.from_url("s3://bucket")
    sha256 = store.put(b"palimpsest")
    assert store.put(b"palimpsest") == sha256
    assert endpoint == {f"/bucket/sha256/{sha256[:2]}/{sha256}": b"palimpsest"}
    assert store.get(sha256) == b"palimpsest"
    with pytest.raises(NotFound):
        store.get("0" * 64)
