"""Declared models and data sets over HTTP: versions, states, names, and what refers to what."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.artifacts import compute_sha256
from shared.jobs import attempts, uploads
from shared.jobs.states import Failure
from tests.support.gateway import TENANT, GatewayInProcess, ManualWorker

LIFETIME_S = 3600.0
FOUND = {
    "parameters": 10, "tensors": 2, "dtypes": {"F32": 2}, "resolution": 2.0**-24, "prefixes": [],
    "tied": 0, "filled": 0, "test_accuracy": None, "test_samples": None,
}  # fmt: skip


class Declaring:
    """A gateway, a worker, and what a client does with them."""

    def __init__(self, gateway: GatewayInProcess) -> None:
        self.gateway, self.http = gateway, gateway.http
        self.worker: ManualWorker = gateway.make_worker()

    def bring(self, data: bytes, tenant: str = TENANT) -> str:
        """Upload bytes; their digest."""
        with self.gateway.artifacts.open_draft() as draft:
            draft.write(data)
            uploads.record_upload(
                self.gateway.db, tenant, draft.seal(), "application/octet-stream",
                lifetime_s=LIFETIME_S, quota_bytes=1 << 30, place=draft.place,
            )  # fmt: skip
        return compute_sha256(data)

    def build_model(self, weights: str, **changes: Any) -> dict[str, Any]:
        return {
            "name": "before", "weights": weights, "model": {"name": "mlp", "params": {"width": 8}},
            "input_shape": [1, 28, 28], "num_classes": 10, **changes,
        }  # fmt: skip

    def post(self, path: str, body: Any, status: int = 202) -> dict[str, Any]:
        answer = self.http.post(path, json=body)
        assert answer.status_code == status, answer.get_data(as_text=True)
        return dict(answer.get_json())

    def get(self, path: str, status: int = 200) -> dict[str, Any]:
        answer = self.http.get(path)
        assert answer.status_code == status, answer.get_data(as_text=True)
        return dict(answer.get_json())

    def delete(self, path: str, status: int = 204) -> str:
        answer = self.http.delete(path)
        assert answer.status_code == status, answer.get_data(as_text=True)
        return "" if status == 204 else str(answer.get_json()["detail"])

    def finish(self, found: Any = FOUND) -> None:
        self.worker.finish(self.worker.claim(), json.dumps(found).encode())

    def reject(self, message: str) -> None:
        claim = self.worker.claim()
        attempts.fail_attempt(self.gateway.db, claim.job.id, claim.fence, Failure.INVALID, message)


@pytest.fixture
def declaring(tmp_path: Path) -> Iterator[Declaring]:
    gateway = GatewayInProcess(tmp_path)
    yield Declaring(gateway)
    gateway.close()


def test_a_model_is_checked_then_ready_with_what_was_read(declaring: Declaring) -> None:
    weights = declaring.bring(b"weights")
    answer = declaring.http.post("/v1/models", json=declaring.build_model(weights))
    assert answer.status_code == 202, answer.get_data(as_text=True)
    body = answer.get_json()
    assert (body["name"], body["version"], body["state"]) == ("before", 1, "checking")
    assert answer.headers["Location"] == body["url"] == "/v1/models/before/versions/1"
    declaring.finish()
    shown = declaring.get("/v1/models/before")
    assert (shown["state"], shown["found"], shown["reason"]) == ("ready", FOUND, None)
    assert shown["model"] == {"name": "mlp", "params": {"width": 8}}
    assert declaring.get(body["url"]) == shown
