"""/v1/catalog, /v1/queues, /v1/workers, /livez, /readyz."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.gateway.app import create_app
from services.gateway.deps import GatewayDeps
from shared.jobs import worker_registry
from shared.jobs.database import Database
from tests.support.gateway import GatewayInProcess, make_catalog
from tests.support.servers import RedisServer


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayInProcess]:
    made = GatewayInProcess(tmp_path)
    yield made
    made.close()


def test_the_catalog_by_kind(gateway):
    found = gateway.http.get("/v1/catalog")
    body = found.get_json()
    assert body["digest"] == make_catalog().digest
    assert [e["name"] for e in body["kinds"]["unlearning"]] == ["ascent", "retrain"]
    assert body["kinds"]["stage"][0]["params_schema"]["additionalProperties"] is False
    etag = {"If-None-Match": found.headers["ETag"]}
    assert gateway.http.get("/v1/catalog", headers=etag).status_code == 304
    assert gateway.http.get("/v1/catalog?kind=model", headers=etag).get_json()["kinds"].keys() == {
        "model"
    }
    assert gateway.http.get("/v1/catalog?kind=nothing").get_json()["kinds"] == {}
    worker_registry.publish_catalog(gateway.db, make_catalog(code="2"))
    assert gateway.http.get("/v1/catalog", headers=etag).status_code == 200


def test_an_empty_catalog(tmp_path):
    gateway = GatewayInProcess(tmp_path, publish=False)
    assert gateway.http.get("/v1/catalog").get_json() == {"digest": None, "kinds": {}}
    gateway.close()


def test_queues_and_workers(gateway):
    jobs = [gateway.post({"stage": "sleep", "seed": n})["id"] for n in range(3)]
    assert {q["workers"] for q in gateway.http.get("/v1/queues").get_json()["items"]} == {0}
    worker = gateway.make_worker()
    worker.claim()
    queues = {q["stage"]: q for q in gateway.http.get("/v1/queues").get_json()["items"]}
    assert 0 <= queues["sleep"].pop("oldest_age_s") < 600
    assert queues["sleep"] == {
        "stage": "sleep",
        "counts": {"queued": 2, "running": 1},
        "workers": 1,
        "finished": 0,
        "mean_run_s": None,
        "paused_at": None,
    }
    assert queues["train"] == {
        "stage": "train",
        "counts": {},
        "workers": 1,
        "oldest_age_s": None,
        "finished": 0,
        "mean_run_s": None,
        "paused_at": None,
    }
    (shown,) = gateway.http.get("/v1/workers").get_json()["items"]
    assert (shown["id"], shown["live"], shown["job"], shown["drain"]) == (
        "hand",
        True,
        jobs[0],
        False,
    )
    assert shown["seen_at"].endswith("Z")
    worker_registry.request_drain(gateway.db, "hand")
    assert {q["workers"] for q in gateway.http.get("/v1/queues").get_json()["items"]} == {0}


def test_ready_without_a_broker_and_without_a_token(gateway, tmp_path):
    client = gateway.app.test_client()
    assert client.get("/livez").get_json() == {"status": "live"}
    ready = client.get("/readyz")
    assert ready.status_code == 200
    assert ready.get_json() == {
        "status": "ready",
        "store": "ok",
        "schema": "ok",
        "broker": "unreachable",
    }
    redis = RedisServer(tmp_path / "redis").start()
    with_redis = GatewayInProcess(tmp_path / "two", broker_url=redis.url)
    assert with_redis.app.test_client().get("/readyz").get_json()["broker"] == "ok"
    with_redis.close()
    redis.kill()


def test_not_ready_with_another_schema(gateway, tmp_path):
    other = Database(f"sqlite:///{tmp_path}/empty.db")
    app = create_app(GatewayDeps(other, gateway.artifacts, gateway.wakeup_sender, gateway.settings))
    ready = app.test_client().get("/readyz")
    assert ready.status_code == 503
    assert "migrate" in ready.get_json()["schema"]
    assert app.test_client().get("/livez").status_code == 200


def test_not_ready_without_a_store(gateway):
    gone = Database("postgresql+psycopg://user:secret@127.0.0.1:1/none")
    app = create_app(GatewayDeps(gone, gateway.artifacts, gateway.wakeup_sender, gateway.settings))
    ready = app.test_client().get("/readyz")
    assert (ready.status_code, ready.get_json()["store"]) == (503, "unreachable")
    assert "secret" not in ready.get_data(as_text=True)
