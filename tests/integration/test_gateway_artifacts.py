"""/v1/artifacts/{sha256}."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.gateway.app import create_app
from services.gateway.deps import GatewayDeps
from shared.artifacts import digest
from shared.config import Settings
from tests.support.gateway import TOKEN, GatewayInProcess, Signed


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayInProcess]:
    made = GatewayInProcess(tmp_path)
    yield made
    made.close()


def made(gateway: GatewayInProcess, data: bytes, media_type: str) -> str:
    gateway.post({"stage": "sleep", "params": {"note": media_type}})
    worker = gateway.worker()
    return worker.finish(worker.claim(), data, media_type)


def test_the_bytes_come_as_they_are(gateway):
    data = bytes(range(256)) * 20_000  # several chunks
    sha256 = made(gateway, data, "application/octet-stream")
    answer = gateway.http.get(f"/v1/artifacts/{sha256}")
    assert answer.get_data() == data
    assert answer.content_length == len(data)
    assert answer.content_type == "application/octet-stream"
    assert answer.headers["ETag"] == f'"{sha256}"'
    assert answer.headers["Content-Disposition"] == f'attachment; filename="base-{sha256[:12]}.bin"'
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "immutable" in answer.headers["Cache-Control"]
    assert "private" in answer.headers["Cache-Control"]


def test_what_one_has_is_not_sent_again(gateway):
    sha256 = made(gateway, b"{}", "application/json")
    for etag in (f'"{sha256}"', f'"other", "{sha256}"', "*"):
        answer = gateway.http.get(f"/v1/artifacts/{sha256}", headers={"If-None-Match": etag})
        assert (answer.status_code, answer.get_data()) == (304, b"")
    assert gateway.http.get(f"/v1/artifacts/{sha256}", headers={"If-None-Match": '"x"'}).status_code == 200


@pytest.mark.parametrize(
    ("media_type", "extension"),
    [
        ("application/json", ".json"),
        ("text/html", ".html"),
        ("image/png", ".png"),
        ("application/x-safetensors", ".safetensors"),
        ("application/x-unheard-of", ".bin"),
    ],
)
def test_a_page_among_the_artifacts_is_downloaded_not_shown(gateway, media_type, extension):
    sha256 = made(gateway, media_type.encode(), media_type)
    answer = gateway.http.get(f"/v1/artifacts/{sha256}")
    assert answer.headers["Content-Disposition"].endswith(f'{extension}"')
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert "sandbox" in answer.headers["Content-Security-Policy"]


def test_what_no_job_of_the_tenant_made_is_not_there(gateway):
    sha256 = made(gateway, b"mine", "text/plain")
    unlisted = gateway.artifacts.put(b"in the store, but of no job")
    for path in (unlisted, digest(b"nowhere"), "0" * 63, "A" * 64, "%00", "..%2f..%2fetc%2fpasswd", "%F0%9F%92%A9"):
        assert gateway.http.get(f"/v1/artifacts/{path}").status_code == 404
    foreign = create_app(
        GatewayDeps(gateway.db, gateway.artifacts, gateway.ringer, Settings(token=TOKEN, tenant="another"))
    )
    assert Signed(foreign.test_client()).get(f"/v1/artifacts/{sha256}").status_code == 404


def test_one_that_the_store_has_lost_is_404(tmp_path, gateway):
    sha256 = made(gateway, b"soon gone", "text/plain")
    from shared.artifacts import ArtifactStore

    empty = ArtifactStore.from_url("memory://")
    app = create_app(GatewayDeps(gateway.db, empty, gateway.ringer, gateway.settings))
    answer = Signed(app.test_client()).get(f"/v1/artifacts/{sha256}")
    assert (answer.status_code, answer.content_type) == (404, "application/problem+json")


def test_head_sends_no_bytes(gateway):
    sha256 = made(gateway, b"12345", "text/plain")
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answer = gateway.app.test_client().head(f"/v1/artifacts/{sha256}", headers=headers)
    assert (answer.status_code, answer.content_length, answer.get_data()) == (200, 5, b"")
