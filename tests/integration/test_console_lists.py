"""Pages of models, data sets, files, keys, tenants, workers and webhooks, without a browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from shared.jobs import keys, tenants, worker_registry
from shared.jobs.keys import ADMIN, READ
from tests.support.console_world import DATASET_INSPECTION, MODEL_INSPECTION
from tests.support.gateway import AUDIT, AuthenticatedClient, GatewayInProcess
from tests.support.keys import find_id, make_client, make_key
from tests.support.migrated import open_migrated

HTML = {"Accept": "text/html"}
MODEL = {"model": "mlp", "input_shape": [3, 32, 32], "num_classes": 10}


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayInProcess]:
    served = GatewayInProcess(tmp_path)
    yield served
    served.close()


def read(client: AuthenticatedClient, path: str, status: int = 200) -> str:
    """The text of a page."""
    answer = client.get(path, headers=HTML)
    assert answer.status_code == status, (path, answer.status_code)
    assert answer.mimetype == "text/html"
    return str(answer.get_data(as_text=True))


def send(client: AuthenticatedClient, path: str, status: int, **form: Any) -> str:
    """The page, or the address, that a form leads to."""
    answer = client.post(path, data=form, headers=HTML)
    assert answer.status_code == status, (path, answer.status_code, answer.get_data(as_text=True))
    return str(answer.headers.get("Location") or answer.get_data(as_text=True))


def upload(client: AuthenticatedClient, data: bytes) -> str:
    return str(client.post("/v1/artifacts", data=data).get_json()["sha256"])


def declare(gateway: GatewayInProcess, name: str, weights: str, **more: Any) -> None:
    body = {"name": name, "weights": weights, **MODEL, **more}
    assert gateway.http.post("/v1/models", json=body).status_code == 202


def declare_data(gateway: GatewayInProcess, name: str, sha256: str) -> None:
    body = {"name": name, "dataset": {"name": "own", "params": {"path": f"upload:{sha256}"}}}
    assert gateway.http.post("/v1/datasets", json=body).status_code == 202


def test_a_model_is_listed_filtered_and_shown_with_what_its_check_found(
    gateway: GatewayInProcess,
) -> None:
    worker = gateway.make_worker()
    declare(gateway, "before", upload(gateway.http, b"a"), labels={"team": "vision"})
    assert "Not checked yet" in read(gateway.http, "/models/before")
    worker.finish(worker.claim(), json.dumps(MODEL_INSPECTION).encode())
    declare(gateway, "after", upload(gateway.http, b"b"))
    worker.reject(worker.claim(), "the file lacks <head.weight>")
    assert {"before", "after"} <= set(re.findall(r">(\w+)</a>", read(gateway.http, "/models")))
    assert "after</a>" not in read(gateway.http, "/models?name=before")
    assert "after</a>" not in read(gateway.http, "/models?label=team%3Dvision")
    assert "None matches" in read(gateway.http, "/models?label=team%3Dtext")
    shown = read(gateway.http, "/models/before/versions/1")
    assert "11,181,642" in shown
    assert "93.1%" in shown
    assert "the file lacks &lt;head.weight&gt;" in read(gateway.http, "/models/after")


@pytest.mark.parametrize(
    ("query", "words"),
    [("name=!", "letters, digits"), ("label=%3Dx", "KEY or KEY=VALUE"), ("label=a%00", "KEY or")],
)
def test_a_wrong_filter_is_told_beside_its_field(
    gateway: GatewayInProcess, query: str, words: str
) -> None:
    page = read(gateway.http, f"/models?{query}", 422)
    assert words in page
    assert 'aria-invalid="true"' in page


def test_a_data_set_shows_its_splits_and_its_file(gateway: GatewayInProcess) -> None:
    worker, sha256 = gateway.make_worker(), upload(gateway.http, b"pictures")
    declare_data(gateway, "photos", sha256)
    worker.finish(worker.claim(), json.dumps(DATASET_INSPECTION).encode())
    shown = read(gateway.http, "/datasets/photos")
    assert "50,000 samples, labels 0 to 9" in shown
    assert f"/artifacts/{sha256}" in shown
    assert "photos@1" in read(gateway.http, "/artifacts")


def test_a_file_shows_the_audits_that_name_it(gateway: GatewayInProcess) -> None:
    sha256, unused = upload(gateway.http, b"pictures"), upload(gateway.http, b"others")
    assert "nothing lately" in read(gateway.http, "/artifacts")
    dataset = {"name": "own", "params": {"path": f"upload:{sha256}"}}
    answer = gateway.http.post("/v1/audits", json={**AUDIT, "name": "mine", "dataset": dataset})
    link = f'<a href="/audits/{answer.get_json()["id"]}">mine</a>'
    for path in ("/artifacts", f"/artifacts/{sha256}"):
        assert link in read(gateway.http, path), path
    uses = read(gateway.http, f"/artifacts/{unused}").partition('id="uses-title"')[2]
    assert "recent audit names it" in uses


def test_labels_are_replaced_by_those_of_the_form(gateway: GatewayInProcess) -> None:
    declare(gateway, "before", upload(gateway.http, b"a"), labels={"old": "1", "kept": "2"})
    path = "/models/before/versions/1"
    refused = send(gateway.http, f"{path}/labels", 422, key=["no spaces!"], value=["<typed>"])
    assert "A key has letters" in refused
    assert "&lt;typed&gt;" in refused
    assert send(gateway.http, f"{path}/labels", 303, key=["kept", ""], value=["3", ""]) == path
    assert gateway.http.get("/v1/models/before").get_json()["labels"] == {"kept": "3"}


def test_deleting_says_what_goes_with_it_and_removes_it(gateway: GatewayInProcess) -> None:
    worker, sha256 = gateway.make_worker(), upload(gateway.http, b"private pictures")
    declare_data(gateway, "photos", sha256)
    worker.finish(worker.claim(), json.dumps(DATASET_INSPECTION).encode())
    audit = {**AUDIT, "name": "of photos", "dataset": "declared:photos"}
    assert gateway.http.post("/v1/audits", json=audit).status_code == 202
    asked = read(gateway.http, "/datasets/photos/delete")
    assert "24 jobs have not ended" in asked
    send(gateway.http, "/datasets/photos/delete?derived=true", 409)
    worker.finish_all()
    asked = read(gateway.http, "/datasets/photos/delete?version=1")
    assert "of photos" in asked
    assert "Delete 1 audit, 25 jobs and" in asked
    # the file itself waits for the name that refers to it
    assert "photos@1" in read(gateway.http, f"/artifacts/{sha256}/delete")
    gone = send(gateway.http, "/datasets/photos/delete?version=1&derived=true", 200)
    assert "1 audit, 25 jobs" in gone
    assert "photos" not in gone
    read(gateway.http, "/datasets/photos", 404)
    read(gateway.http, f"/artifacts/{sha256}", 404)


def test_a_file_alone_is_deleted(gateway: GatewayInProcess) -> None:
    sha256 = upload(gateway.http, b"alone")
    assert sha256[:16] in read(gateway.http, "/artifacts")
    assert "Delete the file" in read(gateway.http, f"/artifacts/{sha256}/delete")
    assert "The file is deleted" in send(gateway.http, f"/artifacts/{sha256}/delete", 200)
    assert "None yet" in read(gateway.http, "/artifacts")


def test_a_result_of_a_job_is_shown_with_the_job(gateway: GatewayInProcess) -> None:
    worker, job = gateway.make_worker(), gateway.post()["id"]
    sha256 = worker.finish(worker.claim(), b"a result")
    assert f"/jobs/{job}" in read(gateway.http, f"/artifacts/{sha256}")
    read(gateway.http, f"/artifacts/{sha256}/delete", 404)


def test_lists_are_paged(gateway: GatewayInProcess) -> None:
    for n in range(26):
        upload(gateway.http, f"file {n}".encode())
    first = read(gateway.http, "/artifacts")
    (older,) = re.findall(r'href="(/artifacts\?page=[^"]+)"', first)
    second = read(gateway.http, older.replace("&amp;", "&"))
    assert second.count('scope="row"') == 1
    assert "Newest" in second
    read(gateway.http, "/artifacts?page=none", 422)


def test_a_key_is_shown_once_and_revoked(gateway: GatewayInProcess) -> None:
    tenants.create_tenant(gateway.db, "lab")
    form = {"tenant": "lab", "label": "ci", "scopes": ["read", "submit"], "lifetime": "30"}
    assert "no such tenant" in send(gateway.http, "/keys", 422, **{**form, "tenant": "none"})
    assert "Enter the name" in send(gateway.http, "/keys", 422, **{**form, "tenant": "a\0b"})
    assert "Choose at least one" in send(gateway.http, "/keys", 422, **{**form, "scopes": []})
    assert "Choose one of these" in send(gateway.http, "/keys", 422, **{**form, "lifetime": "8"})
    answer = gateway.http.post("/keys", data=form, headers=HTML)
    assert answer.headers["Cache-Control"] == "no-store"
    (secret,) = re.findall(r"pal_[\w-]{43}", answer.get_data(as_text=True))
    client, key = make_client(gateway.app, secret), find_id(gateway.db, secret)
    assert client.get("/v1/me").get_json()["tenant"] == "lab"
    assert secret not in read(gateway.http, "/keys")
    assert "ci" in read(gateway.http, "/keys?tenant=lab")
    assert "This tenant has no key" in read(gateway.http, "/keys?tenant=a%00b")
    assert "ci" in read(gateway.http, f"/keys/{key}/revoke")
    assert send(gateway.http, f"/keys/{key}/revoke", 303) == "/keys"
    assert keys.get_key(gateway.db, key).state == "revoked"


def test_the_last_key_that_administers_is_not_revoked(tmp_path: Path) -> None:
    db = open_migrated(tmp_path / "palimpsest.db")
    secret = make_key(db, "local", ADMIN, READ)
    db.close()
    gateway = GatewayInProcess(tmp_path, token="")
    client = make_client(gateway.app, secret)
    refused = send(client, f"/keys/{find_id(gateway.db, secret)}/revoke", 409)
    assert "no valid key with the scope admin" in refused
    gateway.close()


def test_a_tenant_is_created_with_quotas(gateway: GatewayInProcess) -> None:
    assert "whole number" in send(gateway.http, "/tenants", 422, name="lab", max_queued_jobs="-1")
    assert "1 to 64 characters" in send(gateway.http, "/tenants", 422, name="Lab")
    send(gateway.http, "/tenants", 303, name="lab", max_queued_jobs="5,000")
    assert "already exists" in send(gateway.http, "/tenants", 422, name="lab")
    assert "5,000" in read(gateway.http, "/tenants")
    assert tenants.get_tenant(gateway.db, "lab").quotas.max_queued_jobs == 5000


def test_workers_are_drained_and_stages_paused_by_who_administers(
    gateway: GatewayInProcess,
) -> None:
    gateway.make_worker()
    assert ">Drain<" in read(gateway.http, "/workers")
    assert send(gateway.http, "/workers/hand/drain", 303, next="/") == "/"
    assert ">Undrain<" in read(gateway.http, "/")
    assert (
        send(gateway.http, "/stages/sleep/pause", 303, next="//evil.example/") == "/evil.example/"
    )
    assert ">Resume<" in read(gateway.http, "/workers")
    send(gateway.http, "/workers/hand/undrain", 303)
    send(gateway.http, "/stages/sleep/resume", 303)
    send(gateway.http, "/stages/none/pause", 404)
    send(gateway.http, "/workers/none/drain", 404)
    reader = make_client(gateway.app, make_key(gateway.db, "lab", READ))
    page = read(reader, "/workers")
    assert "needs a key with the scope admin" in page
    assert ">Drain<" not in page
    assert ">Pause<" not in page


def test_a_webhook_is_added_tried_and_deleted(gateway: GatewayInProcess) -> None:
    url = "https://93.184.215.14/hook"
    assert "https" in send(gateway.http, "/webhooks", 422, url="http://a", events=["job.failed"])
    assert "Choose at least one" in send(gateway.http, "/webhooks", 422, url=url)
    added = send(gateway.http, "/webhooks", 201, url=url, events=["job.failed"])
    (secret,) = re.findall(r"whsec_[\w+/=]{44}", added)
    webhook = gateway.http.get("/v1/webhooks").get_json()["items"][0]["id"]
    assert secret not in read(gateway.http, "/webhooks")
    assert send(gateway.http, f"/webhooks/{webhook}/test", 303) == f"/webhooks/{webhook}"
    assert "webhook.test" in read(gateway.http, f"/webhooks/{webhook}")
    assert "Delete this webhook?" in read(gateway.http, f"/webhooks/{webhook}/delete")
    send(gateway.http, f"/webhooks/{webhook}/delete", 303)
    read(gateway.http, f"/webhooks/{webhook}", 404)


def test_many_workers_are_summarised_on_the_home_page(gateway: GatewayInProcess) -> None:
    add_workers(gateway, 61)
    page = read(gateway.http, "/")
    assert "61 workers in all" in page
    assert "worker-60" not in page
    assert "worker-60" in read(gateway.http, "/workers")


def test_the_api_page_lists_every_operation_and_leads_nowhere_else(
    gateway: GatewayInProcess,
) -> None:
    page = read(gateway.http, "/openapi/")
    document = gateway.http.get("/openapi/openapi.json").get_json()
    assert page.count('class="method') == sum(
        len(methods) for methods in document["paths"].values()
    )
    for path in ("/openapi/", "/openapi/swagger", "/openapi/scalar"):
        answer = gateway.http.get(path, headers=HTML)
        assert not re.search(r"(href|src)=\"(https?:)?//", answer.get_data(as_text=True))
        policy = answer.headers["Content-Security-Policy"]
        assert "script-src 'self';" in policy
        assert "unsafe-eval" not in policy
    signed_out = gateway.app.test_client().get("/openapi/", headers=HTML)
    assert signed_out.headers["Location"].startswith("/sign-in")


def add_workers(gateway: GatewayInProcess, count: int) -> None:
    for n in range(count):
        worker_registry.register_worker(
            gateway.db, f"worker-{n}", host="here", pid=n, stages=("sleep", f"stage-{n % 7}"),
            device="cpu", threads=1, versions={}, catalog="none",
        )  # fmt: skip


def count_statements(gateway: GatewayInProcess, path: str) -> int:
    statements: list[str] = []

    def note(*args: Any) -> None:
        statements.append(args[2])

    event.listen(gateway.db.engine, "before_cursor_execute", note)
    try:
        read(gateway.http, path)
    finally:
        event.remove(gateway.db.engine, "before_cursor_execute", note)
    return len(statements)


def test_a_page_takes_the_same_number_of_statements_with_any_number_of_things(
    gateway: GatewayInProcess,
) -> None:
    """Of each list and of what it links to."""
    worker = gateway.make_worker()
    declare(gateway, "before", upload(gateway.http, b"weights"), labels={"a": "b"})
    worker.finish(worker.claim(), json.dumps(MODEL_INSPECTION).encode())
    sha256 = upload(gateway.http, b"file")
    declare_data(gateway, "photos", sha256)
    worker.finish(worker.claim(), json.dumps(DATASET_INSPECTION).encode())
    tenants.ensure_tenant(gateway.db, "local")
    keys.create_key(gateway.db, "local", "", ["read"])
    gateway.http.post("/v1/webhooks", json={"url": "https://93.184.215.14/hook"})
    gateway.http.post("/v1/audits", json=AUDIT)
    worker.report_progress(worker.claim(), 1, 2)
    paths = (
        "/", "/models", "/models/before", "/datasets", "/datasets/photos", "/artifacts",
        f"/artifacts/{sha256}", "/keys", "/tenants", "/workers", "/webhooks",
    )  # fmt: skip
    for path in paths:
        read(gateway.http, path)  # so that caches are full
    before = {path: count_statements(gateway, path) for path in paths}
    for n in range(4):
        declare(gateway, "before", upload(gateway.http, f"more {n}".encode()), labels={"n": str(n)})
        declare_data(gateway, f"photos-{n}", upload(gateway.http, f"more files {n}".encode()))
        keys.create_key(gateway.db, "local", "", ["read"])
        tenants.create_tenant(gateway.db, f"tenant-{n}")
        gateway.http.post("/v1/webhooks", json={"url": f"https://93.184.215.14/{n}"})
        gateway.http.post("/v1/audits", json={**AUDIT, "seeds": [n + 5]})
    for _ in range(4):
        worker.report_progress(worker.claim(), 1, 2)
    add_workers(gateway, 20)
    after = {path: count_statements(gateway, path) for path in paths}
    # a newer version is being checked, and one that is not ready has no findings to read
    after.pop("/models/before"), before.pop("/models/before")
    assert after == before
    assert max(after.values()) <= 45
