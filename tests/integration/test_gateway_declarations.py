"""Declared models and data sets over HTTP: versions, states, names, and what refers to what."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.artifacts import compute_sha256
from shared.catalog import Catalog
from shared.errors import TransientError
from shared.jobs import attempts, uploads, worker_registry
from shared.jobs.states import Failure
from shared.jobs.tenant_store import TenantStore
from tests.support.gateway import TENANT, GatewayInProcess, ManualWorker, make_catalog

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
    assert (shown["state"], shown["inspection"], shown["reason"]) == ("ready", FOUND, None)
    assert shown["model"] == {"name": "mlp", "params": {"width": 8}}
    assert declaring.get(body["url"]) == shown


def test_the_same_name_again_is_the_next_version_and_the_same_model_the_same(
    declaring: Declaring,
) -> None:
    first, second = declaring.bring(b"one"), declaring.bring(b"two")
    declaring.post("/v1/models", declaring.build_model(first, labels={"team": "red"}))
    same = declaring.post("/v1/models", declaring.build_model(first), 200)
    assert (same["version"], same["labels"]) == (1, {"team": "red"})
    declaring.finish()
    # a default that is written out is the same declaration
    spelt = declaring.build_model(first, mean=None, labels={"team": "blue"})
    assert declaring.post("/v1/models", spelt, 200)["labels"] == {"team": "blue"}
    assert declaring.post("/v1/models", declaring.build_model(second))["version"] == 2
    assert declaring.get("/v1/models/before")["weights"] == second
    assert declaring.get("/v1/models/before/versions/1")["weights"] == first
    # what was posted last is what the name means
    assert declaring.post("/v1/models", declaring.build_model(first))["version"] == 3


def test_a_rejected_model_says_why_and_is_not_checked_again(declaring: Declaring) -> None:
    body = declaring.build_model(declaring.bring(b"pickle"))
    declaring.post("/v1/models", body)
    declaring.reject("WEIGHTS is a pickle")
    shown = declaring.get("/v1/models/before")
    assert (shown["state"], shown["reason"]) == ("rejected", "WEIGHTS is a pickle")
    again = declaring.post("/v1/models", body, 200)
    assert (again["state"], again["job"]) == ("rejected", shown["job"])
    assert declaring.worker.try_claim() is None


def test_a_check_that_ended_without_a_result_says_so_and_is_repeated(declaring: Declaring) -> None:
    body = declaring.build_model(declaring.bring(b"weights"))
    job = declaring.post("/v1/models", body)["job"]
    assert declaring.http.post(f"/v1/jobs/{job}/cancel").status_code == 202
    shown = declaring.get("/v1/models/before")
    assert shown["state"] == "failed"
    assert "was cancelled" in shown["reason"]
    assert "declare it again" in shown["reason"]
    again = declaring.post("/v1/models", body)
    assert (again["version"], again["state"]) == (1, "checking")
    claim = declaring.worker.claim()
    attempts.fail_attempt(
        declaring.gateway.db, claim.job.id, claim.fence, Failure.LOST_WORKER, "its worker is gone"
    )
    shown = declaring.get("/v1/models/before")
    assert (shown["state"], "its worker is gone" in shown["reason"]) == ("failed", True)
    declaring.post("/v1/models", body)
    declaring.finish()
    assert declaring.get("/v1/models/before")["state"] == "ready"


def test_an_upload_stays_while_a_declaration_refers_to_it(declaring: Declaring) -> None:
    weights = declaring.bring(b"weights")
    declaring.post("/v1/models", declaring.build_model(weights))
    assert "needs upload" in declaring.delete(f"/v1/artifacts/{weights}", 409)
    assert "still being checked" in declaring.delete("/v1/models/before", 409)
    declaring.finish()
    said = declaring.delete(f"/v1/artifacts/{weights}", 409)
    assert said.startswith("the model before@1 refers to upload")
    assert declaring.get(f"/v1/artifacts/{weights}/upload")["expires_at"] is None
    declaring.post("/v1/models", declaring.build_model(weights, name="twin"))
    declaring.delete("/v1/models/before")
    declaring.get("/v1/models/before", 404)
    assert "model twin@1" in declaring.delete(f"/v1/artifacts/{weights}", 409)
    declaring.delete("/v1/models/twin/versions/1")
    assert declaring.get(f"/v1/artifacts/{weights}/upload")["expires_at"] is not None
    declaring.delete(f"/v1/artifacts/{weights}")


def test_a_data_set_of_uploads(declaring: Declaring) -> None:
    file = declaring.bring(b"npz")
    dataset = {"name": "own", "params": {"path": f"upload:{file}"}}
    body = declaring.post("/v1/datasets", {"name": "mine", "dataset": dataset})
    assert body["url"] == "/v1/datasets/mine/versions/1"
    declaring.finish({"input_shape": [1, 2, 2]})  # not all that a check has to find
    shown = declaring.get("/v1/datasets/mine")
    assert (shown["state"], shown["inspection"]) == ("ready", None)
    assert "data set mine@1" in declaring.delete(f"/v1/artifacts/{file}", 409)
    # a model's test data may be it; then the model refers to its files too
    weights = declaring.bring(b"weights")
    model = declaring.build_model(weights, test={"declared": "mine"})
    assert declaring.post("/v1/models", model)["test"] == dataset
    declaring.finish()
    declaring.delete("/v1/datasets/mine")
    assert "model before@1" in declaring.delete(f"/v1/artifacts/{file}", 409)


def test_lists_are_paged_and_filtered(declaring: Declaring) -> None:
    weights = declaring.bring(b"weights")
    for n in range(3):
        labels = {"team": "red"} if n else {"team": "blue", "old": ""}
        declaring.post("/v1/models", declaring.build_model(weights, name=f"m{n}", labels=labels))
    first = declaring.get("/v1/models?limit=2")
    rest = declaring.get(f"/v1/models?limit=2&page={first['next']}")
    names = [one["name"] for one in first["items"] + rest["items"]]
    assert (names, rest["next"]) == (["m2", "m1", "m0"], None)

    def list_names(query: str) -> list[str]:
        return [one["name"] for one in declaring.get(f"/v1/models?{query}")["items"]]

    assert list_names("name=m1") == ["m1"]
    assert list_names("label=team%3Dred") == ["m2", "m1"]
    assert list_names("label=old") == ["m0"]
    assert list_names("label=old%3Dx") == []
    assert declaring.get("/v1/datasets")["items"] == []


def test_labels_are_changed(declaring: Declaring) -> None:
    declaring.post("/v1/models", declaring.build_model(declaring.bring(b"w"), labels={"a": "1"}))
    path = "/v1/models/before/versions/1"
    changed = declaring.http.patch(path, json={"labels": {"a": None, "b": "2"}})
    assert changed.get_json()["labels"] == {"b": "2"}
    assert declaring.get(path)["labels"] == {"b": "2"}
    many = {f"k{n}": "" for n in range(32)}
    assert declaring.http.patch(path, json={"labels": many}).status_code == 409


BAD = {
    "no such upload": ({"weights": "0" * 64}, "weights", "you have no upload"),
    "no digest": ({"weights": "w"}, "weights", "pattern"),
    "a billion classes": ({"num_classes": 10**9}, "num_classes", "1000"),
    "no such model": ({"model": "mpl"}, "model.name", "did you mean 'mlp'"),
    "a parameter of no model": ({"model": {"name": "mlp", "params": {"x": 1}}}, "model.params.x", "x"),
    "two dimensions": ({"input_shape": [28, 28]}, "input_shape", "at least 3"),
    "a control character": ({"name": "be\nfore"}, "name", "pattern"),
    "a version": ({"name": "before@2"}, "name", "pattern"),
    "a long name": ({"name": "x" * 65}, "name", "pattern"),
    "no name": ({"name": ""}, "name", "pattern"),
    "10,000 labels": ({"labels": {f"k{n}": "" for n in range(10_000)}}, "labels", "at most 32"),
    "a bad label": ({"labels": {"a": "\x1b[2J"}}, "labels.a", "pattern"),
    "a long label": ({"labels": {"a": "x" * 257}}, "labels.a", "pattern"),
    "no such data set": ({"test": {"declared": "other"}}, "test", "there is no data set other"),
    "a file of the data root": (
        {"test": {"name": "own", "params": {"path": "a.npz"}}}, "test.params.path", "consist of uploads",
    ),
    "an upload that is not there": (
        {"test": {"name": "own", "params": {"path": "upload:" + "0" * 64}}}, "test.params.path", "no upload",
    ),
}  # fmt: skip


def test_what_cannot_be_declared_is_refused_by_field(declaring: Declaring) -> None:
    weights = declaring.bring(b"weights")
    for case, (changes, field, words) in BAD.items():
        answer = declaring.http.post(
            "/v1/models", json={**declaring.build_model(weights), **changes}
        )
        problem = answer.get_json()
        assert answer.status_code == 422, (case, problem)
        assert problem["field"].startswith(field), (case, problem)
        assert words in problem["detail"], (case, problem)
    assert declaring.get("/v1/models")["items"] == []
    assert declaring.worker.try_claim() is None


def test_without_a_worker_that_checks_nothing_is_declared(
    declaring: Declaring,
) -> None:
    others = (entry for entry in make_catalog() if not entry.name.startswith("inspect_"))
    worker_registry.publish_catalog(declaring.gateway.db, Catalog(others))
    answer = declaring.http.post("/v1/models", json=declaring.build_model(declaring.bring(b"w")))
    assert answer.status_code == 409
    assert "start one that serves inspect_model" in answer.get_json()["detail"]


def test_names_belong_to_their_tenant(declaring: Declaring, tmp_path: Path) -> None:
    weights = declaring.bring(b"weights")
    declaring.post("/v1/models", declaring.build_model(weights))
    declaring.finish()
    other = GatewayInProcess(tmp_path, tenant="other")  # over the same store
    other.artifacts = declaring.gateway.artifacts
    stranger = Declaring(other)
    stranger.get("/v1/models/before", 404)
    stranger.delete("/v1/models/before", 404)
    changed = stranger.http.patch("/v1/models/before/versions/1", json={"labels": {}})
    assert changed.status_code == 404
    assert stranger.get("/v1/models")["items"] == []
    answer = stranger.http.post("/v1/models", json=stranger.build_model(weights))
    assert answer.get_json()["field"] == "weights"
    own = stranger.post("/v1/models", stranger.build_model(stranger.bring(b"w", "other")))
    assert own["version"] == 1
    other.close()


def test_what_is_no_name_is_not_found(declaring: Declaring) -> None:
    for path in ("a%0Ab", "x" * 65, "%20", "be%2Ffore", "before/versions/0"):
        assert declaring.http.get(f"/v1/models/{path}").status_code == 404, path


def test_a_gateway_that_dies_between_job_and_declaration_leaves_what_the_next_request_finds(
    declaring: Declaring, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = declaring.build_model(declaring.bring(b"weights"))

    def die(*_: Any) -> None:
        raise TransientError("the process was killed")

    with monkeypatch.context() as patched:
        patched.setattr(TenantStore, "record_declaration", die)
        assert declaring.http.post("/v1/models", json=body).status_code == 503
    declaring.get("/v1/models/before", 404)
    declaring.finish()
    assert declaring.post("/v1/models", body)["state"] == "ready"
    assert declaring.worker.try_claim() is None


def test_a_model_is_deleted_with_what_was_made_of_it(declaring: Declaring) -> None:
    weights = declaring.bring(b"weights")
    declaring.post("/v1/models", declaring.build_model(weights))
    declaring.finish()
    said = declaring.delete(f"/v1/artifacts/{weights}?derived=true", 409)
    assert "palimpsest models delete before --with-derived" in said
    answer = declaring.http.delete("/v1/models/before?derived=true")
    assert (answer.status_code, answer.get_json()["jobs"]) == (200, 1)
    declaring.get("/v1/models/before", 404)
    declaring.get(f"/v1/artifacts/{weights}/upload", 404)
    assert not declaring.gateway.artifacts.has(weights, len(b"weights"))
