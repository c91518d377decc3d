"""A served gateway in which something of everything is there, for tests and pictures of all pages of
the console.

A page with a new argument in its address needs a value in `World.arguments`; everything else about
new pages is read from the routes of the app.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr
from sqlalchemy import update

from services.gateway.app import create_app
from services.gateway.deps import GatewayDeps
from shared.config import Settings
from shared.jobs import keys, stage_pauses, tenants, webhooks, worker_drains, worker_registry
from shared.jobs.database import Database
from shared.jobs.queue import InMemoryWakeup, WakeupSender
from shared.jobs.quotas import Quotas
from shared.jobs.tables import workers
from tests.support.gateway import (
    AUDIT,
    TENANT,
    TOKEN,
    GatewayProcess,
    ManualWorker,
    make_catalog,
    serve_gateway,
)
from tests.support.keys import end_key, find_id, make_key
from tests.support.reported_audits import build_measured_report, finish_with_report, make_files

N_WORKERS = 70  # more than the home page lists one by one
HEARTBEAT_S = 5.0
MODEL_INSPECTION = {
    "parameters": 11_181_642, "tensors": 122, "dtypes": {"float32": 102, "int64": 20}, "resolution": 5.96e-8,
    "prefixes": ["module."], "tied": 0, "filled": 0, "test_accuracy": 0.931, "test_samples": 10_000,
}  # fmt: skip
DATASET_INSPECTION = {
    "input_shape": [3, 32, 32], "num_classes": 10,
    "classes": ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
    "train": {"samples": 50_000, "digest": "a" * 64, "lowest_label": 0, "highest_label": 9},
    "test": {"samples": 10_000, "digest": "b" * 64, "lowest_label": 0, "highest_label": 9},
}  # fmt: skip


# What a page cannot do without.
QUERIES = {
    "/jobs/cancel": "?state=queued",
    "/compare": "?audits=<audit_id>&audits=<compared_id>",
}


@dataclass(frozen=True)
class World:
    """The gateway, and what stands in the addresses of its pages.

    arguments: by the name of an argument of a route, its value.
    """

    gateway: GatewayProcess
    arguments: dict[str, Any]

    def list_pages(self) -> dict[str, str]:
        """The path of each page by its route: every route of the console that answers with a whole
        document.

        Raises:
            AssertionError: a route has an argument without a value, or does not answer with 200.
        """
        pages = {}
        with httpx.Client(
            base_url=self.gateway.url,
            headers={"Authorization": f"Bearer {TOKEN}", "Accept": "text/html"},
            trust_env=False,
            timeout=60,
        ) as client:
            for rule in _list_rules(self.gateway):
                path = self._build_path(rule)
                with client.stream("GET", path) as answer:
                    assert answer.status_code == 200, (rule, path, answer.status_code)
                    # an event stream does not end
                    is_html = answer.headers["Content-Type"].startswith("text/html")
                    if is_html and b"<html" in answer.read():
                        pages[rule] = path
        return pages

    def _build_path(self, rule: str) -> str:
        values = self.arguments | {"name": self.arguments[_choose_kind(rule)]}
        path = rule + QUERIES.get(rule, "")
        for argument, value in values.items():
            path = path.replace(f"<{argument}>", str(value))
        assert "<" not in path, f"{path}: World.arguments has no value for it"
        return path


def _choose_kind(rule: str) -> str:
    return "dataset" if rule.startswith("/datasets") else "model"


def _list_rules(gateway: GatewayProcess) -> list[str]:
    """The routes of the console that are fetched, but for files."""
    sender = WakeupSender(InMemoryWakeup())
    settings = Settings(token=SecretStr(TOKEN))
    app = create_app(GatewayDeps(gateway.db, gateway.artifacts, sender, settings))
    sender.close()
    return sorted(
        rule.rule
        for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith("console_")
        and "GET" in (rule.methods or ())
        and not rule.rule.startswith("/assets/")
    )


@contextlib.contextmanager
def serve_world(folder: Path, **env: str) -> Iterator[World]:
    """The gateway with everything in it; its workers stay alive until the context ends."""
    with serve_gateway(folder, **env) as gateway:
        arguments = _fill(gateway)
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(HEARTBEAT_S):
                _keep_alive(gateway.db)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        yield World(gateway, arguments)
        ended.set()
        thread.join()


def _keep_alive(db: Database) -> None:
    alive = update(workers).where(workers.c.id != "away-1").values(seen_at=db.now)
    with db.write() as connection:
        connection.execute(alive)


def _fill(gateway: GatewayProcess) -> dict[str, Any]:
    with httpx.Client(
        base_url=gateway.url,
        headers={"Authorization": f"Bearer {TOKEN}"},
        trust_env=False,
        timeout=60,
    ) as client:
        worker = gateway.make_worker()
        uploads = [_upload(client, f"bytes of file {n} ".encode() * 4000 * n) for n in range(1, 6)]
        _declare(client, worker, uploads)
        audits = _post_audits(client, worker, uploads[4])
        job = client.get("/v1/jobs", params={"audit": audits["succeeded"]}).json()["items"][0]["id"]
        webhook = _add_webhooks(client, gateway.db)
    key = _add_keys(gateway.db)
    _add_workers(gateway.db)
    return {
        "audit_id": audits["succeeded"], "compared_id": audits["compared"], "job_id": job,
        "sha256": uploads[4], "key_id": key, "version": 1,
        "webhook_id": webhook, "stage": "unlearn", "worker_id": "gpu-01", "model": "before", "dataset": "photos",
    }  # fmt: skip


def _post(client: httpx.Client, path: str, body: Any) -> dict[str, Any]:
    answer = client.post(path, json=body)
    assert answer.is_success, answer.text
    return dict(answer.json())


def _upload(client: httpx.Client, data: bytes) -> str:
    answer = client.post("/v1/artifacts", content=data)
    assert answer.is_success, answer.text
    return str(answer.json()["sha256"])


def _declare(client: httpx.Client, worker: ManualWorker, uploads: list[str]) -> None:
    """Models that are ready, rejected and being checked, and a data set."""
    model = {
        "model": {"name": "mlp", "params": {"width": 64}},
        "input_shape": [3, 32, 32],
        "num_classes": 10,
    }
    labels = {"team": "vision", "ticket": "GDPR-1207"}
    for name, weights in (("before", uploads[0]), ("after-scrub", uploads[1])):
        _post(client, "/v1/models", {"name": name, "weights": weights, "labels": labels, **model})
        worker.finish(worker.claim(), json.dumps(MODEL_INSPECTION).encode())
    _post(
        client, "/v1/models", {"name": "before", "weights": uploads[0], **model, "mean": [0.5] * 3}
    )
    worker.finish(worker.claim(), json.dumps(MODEL_INSPECTION).encode())
    file = {"name": "own", "params": {"path": f"upload:{uploads[2]}"}}
    _post(client, "/v1/datasets", {"name": "photos", "dataset": file, "labels": labels})
    worker.finish(worker.claim(), json.dumps(DATASET_INSPECTION).encode())
    _post(client, "/v1/models", {"name": "torn", "weights": uploads[3], **model})
    claim = worker.claim()
    worker.reject(
        claim, "the file has 12 tensors that the architecture has not, such as head.weight"
    )
    _post(client, "/v1/models", {"name": "late", "weights": uploads[3], **model, "num_classes": 11})
    busy = ManualWorker(worker.db, worker.artifacts, "cpu-01")
    busy.report_progress(busy.claim(), 1, 3)


def _post_audits(client: httpx.Client, worker: ManualWorker, upload: str) -> dict[str, str]:
    """An audit in every state, by state; the one that has succeeded read an upload. `compared` has
    succeeded too."""
    files = {"name": "own", "params": {"path": f"upload:{upload}"}}
    posted = {}
    states = ("compared", "succeeded", "failed", "cancelled", "running", "queued")
    for n, state in enumerate(states):
        # another model each, so that no two share a job
        spec = {**AUDIT, "model": {"name": "mlp", "params": {"width": 8 + n}}}
        spec |= {"name": f"nightly scrub {n + 1}"}
        if state == "succeeded":
            spec["dataset"] = files
        posted[state] = str(_post(client, "/v1/audits", spec)["id"])
        if state in ("compared", "succeeded"):
            report, evaluations, galleries = build_measured_report(4.0 * n)
            finish_with_report(worker, make_files(report, galleries), evaluations)
        elif state == "failed":
            worker.finish(worker.claim(), b"base")
            worker.fail(
                worker.claim(), "the loss is not finite in step 12: lower the learning rate"
            )
            worker.finish_all()
        elif state == "cancelled":
            _post(client, f"/v1/audits/{posted[state]}/cancel", None)
        elif state == "running":
            worker.finish(worker.claim(), b"base of another")
            busy = ManualWorker(worker.db, worker.artifacts, "gpu-01")
            busy.report_progress(busy.claim(), 37, 100, loss=0.42)
    return posted


def _add_webhooks(client: httpx.Client, db: Database) -> str:
    """Two webhooks, one of them with deliveries that have ended in each way; its id."""
    _post(client, "/v1/webhooks", {"url": "https://93.184.215.14/hooks/privacy"})
    webhook = _post(
        client,
        "/v1/webhooks",
        {"url": "https://93.184.215.14/ci/palimpsest", "events": ["audit.failed", "job.failed"]},
    )["id"]
    for delivered, outcome in ((True, "200 OK"), (False, "503 Service Unavailable")):
        _post(client, f"/v1/webhooks/{webhook}/test", None)
        for due in webhooks.claim_due_deliveries(db, 10):
            webhooks.record_delivery(db, due, delivered=delivered, outcome=outcome)
    return str(webhook)


def _add_keys(db: Database) -> str:
    """Tenants, and keys in every state; the id of one that is valid."""
    quotas = Quotas(max_queued_jobs=5000, max_running_jobs=8, max_artifact_bytes=50 << 30)
    tenants.create_tenant(db, "vision-lab", quotas)
    tenants.create_tenant(db, "hospital", Quotas(max_requests_per_minute=600))
    key, _ = keys.create_key(db, "vision-lab", "nightly pipeline", ["read", "submit"])
    keys.note_use(db, key.id)
    keys.create_key(db, TENANT, "Ada, operator", list(keys.SCOPES), 30 * 86_400.0)
    keys.revoke_key(db, find_id(db, make_key(db, "hospital")), has_token=True)
    end_key(db, make_key(db, "vision-lab", "read"))
    return key.id


def _add_workers(db: Database) -> None:
    """Many workers of several kinds; one is drained, one is away, and a stage is paused."""
    kinds = (("gpu", ("attack", "unlearn", "train", "pretrain"), "cuda:0 NVIDIA H100"),
             ("cpu", ("evaluate", "defend", "report", "sleep"), "cpu"))  # fmt: skip
    for n in range(N_WORKERS):
        kind, stages, device = kinds[n % 2]
        name = f"{kind}-{n // 2 + 1:02}"
        _register(db, name, f"{kind}-host-{n // 8 + 1}", stages, device)
        worker_registry.record_heartbeat(
            db, name, memory_bytes=(3 << 30) + n * (17 << 20),
            device_memory_bytes=(21 << 30) + n * (5 << 20) if kind == "gpu" else None,
        )  # fmt: skip
    _register(db, "away-1", "old-host", ("attack",), "cpu")
    with db.write() as connection:
        away = update(workers).where(workers.c.id == "away-1")
        connection.execute(away.values(seen_at=db.now - 600))
    worker_drains.drain_worker(db, "gpu-02")
    stage_pauses.pause_stage(db, "defend")


def _register(db: Database, name: str, host: str, stages: tuple[str, ...], device: str) -> None:
    worker_registry.register_worker(
        db, name, host=host, pid=4000, stages=stages, device=device, threads=8,
        versions={"palimpsest": "0.1.0", "torch": "2.7.1"}, catalog=make_catalog().digest,
    )  # fmt: skip
