"""/v1/webhooks, and the commands of the command line for it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.gateway.api.webhooks import EventName
from services.gateway.app import create_app
from services.gateway.deps import GatewayDeps
from services.webhooks.address import parse_networks
from services.webhooks.request import MessageSender
from services.webhooks.sender import WebhookSender
from shared.config import Settings
from shared.jobs import access_log
from shared.jobs.outbox_reader import process_outbox
from shared.jobs.webhook_events import EVENTS
from tests.support.cli import make_runner
from tests.support.gateway import (
    AUDIT,
    TOKEN,
    AuthenticatedClient,
    GatewayInProcess,
    serve_gateway,
)
from tests.support.webhook_receiver import answer_with, run_receiver

URL = "https://receiver.example/hook"


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayInProcess]:
    made = GatewayInProcess(tmp_path)
    yield made
    made.close()


def _add(gateway: GatewayInProcess, **body: object) -> dict[str, str]:
    answer = gateway.http.post("/v1/webhooks", json={"url": URL, **body})
    assert answer.status_code == 201, answer.get_data(as_text=True)
    return dict(answer.get_json())


def test_the_documented_events_are_those_that_are_sent() -> None:
    assert set(EventName.__args__) == set(EVENTS)


def test_a_secret_is_shown_once(gateway: GatewayInProcess) -> None:
    webhook = _add(gateway)
    secret = webhook.pop("secret")
    assert secret.startswith("whsec_")
    assert webhook["events"] == ["audit.cancelled", "audit.failed", "audit.succeeded"]
    listed = gateway.http.get("/v1/webhooks")
    assert listed.get_json() == {"items": [webhook]}
    assert secret not in listed.get_data(as_text=True)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"url": "http://a.example/"}, "url"),
        ({"url": "https://127.0.0.1/"}, "url"),
        ({"url": "https://a.example:8443/"}, "url"),
        ({"url": URL, "events": []}, "events"),
        ({"url": URL, "events": ["job.started"]}, "events.0"),
        ({"url": URL, "secret": "mine"}, "secret"),
        ({}, "url"),
    ],
)
def test_what_is_no_webhook_is_refused(
    gateway: GatewayInProcess, body: dict[str, object], field: str
) -> None:
    answer = gateway.http.post("/v1/webhooks", json=body)
    assert (answer.status_code, answer.get_json()["field"]) == (422, field)


def test_the_ends_of_audits_and_jobs_become_deliveries(gateway: GatewayInProcess) -> None:
    webhook = _add(gateway, events=["audit.succeeded", "job.succeeded"])["id"]
    audit = gateway.http.post("/v1/audits", json=AUDIT).get_json()["id"]
    n_jobs = gateway.make_worker().finish_all()
    process_outbox(gateway.db)
    path = f"/v1/webhooks/{webhook}/deliveries"
    body = gateway.http.get(f"{path}?limit=200").get_json()
    assert sorted(d["event"] for d in body["items"]) == (
        ["audit.succeeded"] + ["job.succeeded"] * n_jobs
    )
    assert {(d["state"], d["attempts"], d["outcome"]) for d in body["items"]} == {
        ("pending", 0, None)
    }
    first = gateway.http.get(f"{path}?limit=1").get_json()
    rest = gateway.http.get(f"{path}?limit=200&page={first['next']}").get_json()
    assert first["items"] + rest["items"] == body["items"]
    # no reader of deliveries learns what they were about; the receiver does
    assert audit not in json.dumps(body)


def test_a_webhook_is_deleted_with_what_was_not_sent(gateway: GatewayInProcess) -> None:
    path = f"/v1/webhooks/{_add(gateway)['id']}"
    assert gateway.http.post(f"{path}/test").status_code == 202
    assert gateway.http.delete(path).status_code == 204
    assert gateway.http.delete(path).status_code == 404
    assert gateway.http.get(f"{path}/deliveries").status_code == 404
    assert gateway.http.get("/v1/webhooks/whk_1/deliveries").status_code == 404


def test_the_access_log_says_which_webhook(gateway: GatewayInProcess) -> None:
    webhook = _add(gateway)["id"]
    gateway.http.post(f"/v1/webhooks/{webhook}/test")
    gateway.http.delete(f"/v1/webhooks/{webhook}")
    gateway.http.delete(f"/v1/webhooks/{webhook}")
    entries = access_log.list_entries(gateway.db).items[::-1]
    assert [(e.action.split()[0], e.subject, e.status) for e in entries] == [
        ("POST", webhook, 201),
        ("POST", webhook, 202),
        ("DELETE", webhook, 204),
        ("DELETE", webhook, 404),
    ]


def test_another_tenants_webhook_is_not_there(gateway: GatewayInProcess) -> None:
    webhook = _add(gateway)["id"]
    settings = Settings(token=TOKEN, tenant="another")
    deps = GatewayDeps(gateway.db, gateway.artifacts, gateway.wakeup_sender, settings)
    other = AuthenticatedClient(create_app(deps).test_client())
    assert other.get("/v1/webhooks").get_json() == {"items": []}
    for method, path in (("DELETE", ""), ("POST", "/test"), ("GET", "/deliveries")):
        answer = other._send(method, f"/v1/webhooks/{webhook}{path}")
        assert answer.status_code == 404
        assert answer.get_json()["detail"] == f"there is no webhook {webhook}"
    assert len(gateway.http.get("/v1/webhooks").get_json()["items"]) == 1


def test_there_are_ten_at_most(gateway: GatewayInProcess) -> None:
    for _ in range(10):
        _add(gateway)
    assert gateway.http.post("/v1/webhooks", json={"url": URL}).status_code == 409


@pytest.mark.slow
def test_the_command_line_adds_tests_and_deletes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    ok = answer_with("204 No Content")
    stopped = threading.Event()
    with (
        run_receiver(tmp_path, ok) as receiver,
        serve_gateway(tmp_path, PALIMPSEST_WEBHOOK_ALLOW="127.0.0.0/8") as served,
    ):
        run = make_runner(served.url, monkeypatch, capfdbinary)
        done = run("webhooks", "add", receiver.url, "--event", "job.failed")
        webhook, secret = done.stdout.split()
        assert run("webhooks", "test", webhook, "--wait", "0").returncode == 1  # nobody sends
        allowed = parse_networks("127.0.0.0/8")
        messages = MessageSender(allowed, receiver.trusted_by, look_up=lambda *_: ["127.0.0.1"])
        thread = WebhookSender(served.db, messages, poll_s=0.05).start(stopped)
        done = run("webhooks", "test", webhook)
        assert (done.returncode, done.stdout.splitlines()[-1]) == (
            0,
            "delivered: HTTP 204",
        )
        assert all(message.is_signed_with(secret) for message in receiver.received)
        assert webhook in run("webhooks", "list").stdout
        assert secret not in run("webhooks", "list", "--json").stdout
        assert "webhook.test" in run("webhooks", "deliveries", webhook).stdout
        assert run("webhooks", "delete", webhook).returncode == 0
        assert run("webhooks", "test", webhook).returncode == 2
        refused = run("webhooks", "add", "http://a.example/")
        assert refused.returncode == 2
        assert "must begin with https://" in refused.stderr
        stopped.set()
        thread.join(5)
