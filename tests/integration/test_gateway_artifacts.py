"""/v1/artifacts/{sha256}."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.gateway.app import create_app
from services.gateway.deps import GatewayDeps
from shared.artifacts import ArtifactStore, compute_sha256
from shared.config import Settings
from shared.errors import DamagedArtifact
from tests.support.gateway import TOKEN, AuthenticatedClient, GatewayInProcess


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayInProcess]:
    made = GatewayInProcess(tmp_path)
    yield made
    made.close()


def made(gateway: GatewayInProcess, data: bytes, media_type: str) -> str:
    gateway.post({"stage": "sleep", "params": {"note": media_type}})
    worker = gateway.make_worker()
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
    # or a browser would go on showing it after its deletion, and to whoever signs in next
    assert answer.headers["Cache-Control"] == "no-store"


def test_what_one_has_is_not_sent_again(gateway):
    sha256 = made(gateway, b"{}", "application/json")
    for etag in (f'"{sha256}"', f'"other", "{sha256}"', "*"):
        answer = gateway.http.get(f"/v1/artifacts/{sha256}", headers={"If-None-Match": etag})
        assert (answer.status_code, answer.get_data()) == (304, b"")
    assert (
        gateway.http.get(f"/v1/artifacts/{sha256}", headers={"If-None-Match": '"x"'}).status_code
        == 200
    )


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
    for path in (
        unlisted,
        compute_sha256(b"nowhere"),
        "0" * 63,
        "A" * 64,
        "%00",
        "..%2f..%2fetc%2fpasswd",
        "%F0%9F%92%A9",
    ):
        assert gateway.http.get(f"/v1/artifacts/{path}").status_code == 404
    foreign = create_app(
        GatewayDeps(
            gateway.db,
            gateway.artifacts,
            gateway.wakeup_sender,
            Settings(token=TOKEN, tenant="another"),
        )
    )
    assert (
        AuthenticatedClient(foreign.test_client()).get(f"/v1/artifacts/{sha256}").status_code == 404
    )


@pytest.fixture
def on_disk(tmp_path: Path, gateway: GatewayInProcess) -> AuthenticatedClient:
    """The same gateway over artifacts in a folder, where they can be damaged."""
    gateway.artifacts = ArtifactStore.from_url(f"file://{tmp_path}/artifacts")
    app = create_app(
        GatewayDeps(gateway.db, gateway.artifacts, gateway.wakeup_sender, gateway.settings)
    )
    gateway.http = AuthenticatedClient(app.test_client())
    return gateway.http


def damage(tmp_path: Path, sha256: str, how: str) -> None:
    path = tmp_path / "artifacts/sha256" / sha256[:2] / sha256
    if how == "lost":
        path.unlink()
    else:
        path.write_bytes(b"" if how == "empty" else b"?" * path.stat().st_size)


@pytest.mark.parametrize("how", ["lost", "empty", "changed"])
@pytest.mark.parametrize("size", [9, 5 << 20], ids=["small", "large"])
def test_one_that_is_damaged_is_made_again_and_never_sent(tmp_path, gateway, on_disk, how, size):
    data = b"x" * size
    sha256 = made(gateway, data, "text/plain")
    job = gateway.http.get("/v1/jobs").get_json()["items"][0]["id"]
    damage(tmp_path, sha256, how)
    if (how, size) == ("changed", 5 << 20):  # seen on the way: it ends before it is whole
        answer, had = gateway.http.get(f"/v1/artifacts/{sha256}", buffered=False), []
        with pytest.raises(DamagedArtifact):
            had.extend(len(chunk) for chunk in answer.response)
        assert sum(had) < size
    answer = gateway.http.get(f"/v1/artifacts/{sha256}")
    assert (answer.status_code, answer.content_type) == (503, "application/problem+json")
    assert f"job {job} is rebuilding it" in answer.get_json()["detail"]
    assert gateway.http.get(f"/v1/jobs/{job}").get_json()["state"] == "queued"
    worker = gateway.make_worker()
    claim = worker.claim()
    assert gateway.http.get(f"/v1/artifacts/{sha256}").status_code == 503  # while it runs, too
    assert worker.finish(claim, data, "text/plain") == sha256
    assert gateway.http.get(f"/v1/artifacts/{sha256}").get_data() == data
    assert gateway.http.get(f"/v1/jobs/{job}").get_json()["state"] == "succeeded"


@pytest.mark.parametrize("how", ["lost", "empty"])
def test_an_equal_post_is_not_answered_with_damage(tmp_path, gateway, on_disk, how):
    body = {"stage": "sleep", "params": {"note": "equal"}}
    job = gateway.post(body)["id"]
    worker = gateway.make_worker()
    sha256 = worker.finish(worker.claim(), b"some bytes")
    assert gateway.post(body)["state"] == "succeeded"
    damage(tmp_path, sha256, how)
    again = gateway.post(body)
    assert (again["id"], again["state"], again["created"]) == (job, "queued", False)
    worker.finish(worker.claim(), b"some bytes")
    assert gateway.post(body)["state"] == "succeeded"


def test_an_equal_post_does_not_need_the_artifact_store(tmp_path, gateway, on_disk):
    body = {"stage": "sleep", "params": {"note": "equal"}}
    gateway.post(body)
    worker = gateway.make_worker()
    worker.finish(worker.claim(), b"some bytes")
    (tmp_path / "artifacts/sha256").rename(tmp_path / "away")
    (tmp_path / "artifacts/sha256").write_text("in the way")
    assert gateway.post(body)["state"] == "succeeded"


def test_head_sends_no_bytes(gateway):
    sha256 = made(gateway, b"12345", "text/plain")
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answer = gateway.app.test_client().head(f"/v1/artifacts/{sha256}", headers=headers)
    assert (answer.status_code, answer.content_length, answer.get_data()) == (200, 5, b"")
