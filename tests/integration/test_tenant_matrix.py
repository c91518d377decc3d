"""Every route and method, asked without a key, with an expired one, with one of the wrong scopes, and
by another tenant: 401, 401, 403, 404, and nothing of the tenant in any answer.

The matrix is made from the routes of the app: a route without an entry here fails the test.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import select

from services.gateway.auth import is_public
from services.gateway.scopes import ANY, find_scope
from shared.jobs import keys
from shared.jobs.keys import ADMIN, READ, SCOPES, SUBMIT, WORKER
from shared.jobs.tables import access_log, metadata
from tests.support.gateway import AUDIT, AuthenticatedClient, GatewayInProcess
from tests.support.keys import end_key, find_id, make_client, make_key

ANNA, BERT = "anna-corp", "bert-corp"
FIELD = {
    "job_id": "job", "audit_id": "audit", "sha256": "upload", "key_id": "key", "webhook_id": "webhook",
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """What a route answers to another tenant.

    status: of the answer.
    body: for methods that have one; `{job}`, `{upload}` and so on are replaced by things of Anna's.
    queries: further requests of this route, each with the status of its answer.
    """

    status: int
    body: Any = None
    queries: dict[str, int] = field(default_factory=dict)


FOREIGN, OWN, OPERATORS = Entry(404), Entry(200), Entry(403)
LABELS = Entry(404, {"labels": {"a": "b"}})
PRIORITY = Entry(404, {"priority": 1})
FORM = Entry(404, b"priority=1")
MODEL = {"name": "mine", "model": "mlp", "input_shape": [1, 2, 2], "num_classes": 2}
DATASET = {"name": "own", "params": {"path": "upload:{upload}"}}
ENTRIES: dict[tuple[str, str], Entry] = {
    ("GET", "/"): OWN,
    ("GET", "/assets/<path:filename>"): FOREIGN,
    ("GET", "/audits/<audit_id>/result"): Entry(404, queries={"sort=worst": 404}),
    ("GET", "/compare"): Entry(200, queries={"audits={audit}": 404, "audits={audit},{audit}": 404}),
    ("GET", "/audits"): Entry(200, queries={"name=annas": 200, "page=x": 422}),
    ("GET", "/audits/<audit_id>"): FOREIGN,
    ("GET", "/audits/<audit_id>/live"): FOREIGN,
    ("GET", "/audits/<audit_id>/spec.yaml"): FOREIGN,
    ("POST", "/audits/<audit_id>/cancel"): FOREIGN,
    ("POST", "/audits/<audit_id>/retry"): FOREIGN,
    ("POST", "/audits/<audit_id>/priority"): FORM,
    ("GET", "/audits/<audit_id>/labels"): FOREIGN,
    ("POST", "/audits/<audit_id>/labels"): Entry(404, b"key=a&value=b"),
    ("GET", "/audits/<audit_id>/delete"): FOREIGN,
    ("POST", "/audits/<audit_id>/delete"): Entry(404, b"cancel=1"),
    ("GET", "/jobs"): Entry(200, queries={"audit={audit}": 422, "state=queued": 200}),
    ("GET", "/jobs/cancel"): Entry(422, queries={"audit={audit}": 422, "state=queued": 200}),
    ("POST", "/jobs/cancel"): Entry(422, b""),
    ("GET", "/jobs/<job_id>"): FOREIGN,
    ("POST", "/jobs/<job_id>/cancel"): FOREIGN,
    ("POST", "/jobs/<job_id>/retry"): FOREIGN,
    ("POST", "/jobs/<job_id>/pause"): FOREIGN,
    ("POST", "/jobs/<job_id>/resume"): FOREIGN,
    ("POST", "/jobs/<job_id>/priority"): FORM,
    ("POST", "/audits/draft"): OWN,
    ("GET", "/audits/new"): Entry(200, queries={"from={audit}": 404, "way=own": 200}),
    ("POST", "/audits/new"): Entry(422),
    ("GET", "/artifacts"): OWN,
    ("GET", "/artifacts/<sha256>"): FOREIGN,
    ("GET", "/artifacts/<sha256>/delete"): FOREIGN,
    ("POST", "/artifacts/<sha256>/delete"): Entry(404, queries={"derived=true": 404}),
    ("GET", "/datasets"): OWN,
    ("GET", "/datasets/<name>"): FOREIGN,
    ("GET", "/datasets/<name>/delete"): FOREIGN,
    ("POST", "/datasets/<name>/delete"): Entry(
        404, queries={"derived=true": 404, "version=1": 404}
    ),
    ("GET", "/datasets/<name>/versions/<version>"): FOREIGN,
    ("POST", "/datasets/<name>/versions/<version>/labels"): FOREIGN,
    ("GET", "/keys"): OPERATORS,
    ("POST", "/keys"): OPERATORS,
    ("GET", "/keys/<key_id>/revoke"): OPERATORS,
    ("POST", "/keys/<key_id>/revoke"): OPERATORS,
    ("GET", "/live"): OWN,
    ("GET", "/models"): OWN,
    ("GET", "/models/<name>"): FOREIGN,
    ("GET", "/models/<name>/delete"): FOREIGN,
    ("POST", "/models/<name>/delete"): Entry(404, queries={"derived=true": 404, "version=1": 404}),
    ("GET", "/models/<name>/versions/<version>"): FOREIGN,
    ("POST", "/models/<name>/versions/<version>/labels"): FOREIGN,
    ("POST", "/stages/<stage>/pause"): OPERATORS,
    ("POST", "/stages/<stage>/resume"): OPERATORS,
    ("GET", "/tenants"): OPERATORS,
    ("POST", "/tenants"): OPERATORS,
    ("GET", "/webhooks"): OWN,
    ("POST", "/webhooks"): Entry(422),
    ("GET", "/webhooks/<webhook_id>"): FOREIGN,
    ("GET", "/webhooks/<webhook_id>/delete"): FOREIGN,
    ("POST", "/webhooks/<webhook_id>/delete"): FOREIGN,
    ("POST", "/webhooks/<webhook_id>/test"): FOREIGN,
    ("GET", "/workers"): OWN,
    ("POST", "/workers/<worker_id>/drain"): OPERATORS,
    ("POST", "/workers/<worker_id>/undrain"): OPERATORS,
    ("GET", "/sign-in"): OWN,
    ("POST", "/sign-in"): Entry(403, b"key=x"),  # not from a page of ours
    ("POST", "/sign-out"): Entry(303),
    ("GET", "/livez"): OWN,
    ("GET", "/readyz"): OWN,
    ("GET", "/openapi/"): OWN,
    ("GET", "/openapi/oauth2-redirect.html"): FOREIGN,
    ("GET", "/openapi/openapi.json"): OWN,
    ("GET", "/openapi/scalar"): OWN,
    ("GET", "/openapi/scalar/<path:filename>"): FOREIGN,
    ("GET", "/openapi/static/<path:filename>"): FOREIGN,
    ("GET", "/openapi/swagger"): OWN,
    ("GET", "/openapi/swagger/<path:filename>"): FOREIGN,
    ("POST", "/v1/artifacts"): Entry(201, b"bytes of bert"),
    ("GET", "/v1/artifacts"): OWN,
    ("GET", "/v1/artifacts/<sha256>"): FOREIGN,
    ("DELETE", "/v1/artifacts/<sha256>"): Entry(404, queries={"derived=true": 404}),
    ("GET", "/v1/artifacts/<sha256>/derived"): FOREIGN,
    ("GET", "/v1/artifacts/<sha256>/upload"): FOREIGN,
    ("POST", "/v1/audits"): Entry(
        422, {**AUDIT, "dataset": DATASET}, {"dry_run=true": 200, "dry_run=true&workers=2": 200}
    ),
    ("GET", "/v1/audits"): OWN,
    ("GET", "/v1/audits/<audit_id>"): FOREIGN,
    ("POST", "/v1/audits/<audit_id>/cancel"): FOREIGN,
    ("GET", "/v1/audits/<audit_id>/manifest"): FOREIGN,
    ("GET", "/v1/audits/<audit_id>/archive.zip"): FOREIGN,
    ("GET", "/v1/audits/<audit_id>/spec"): FOREIGN,
    ("PATCH", "/v1/audits/<audit_id>"): LABELS,
    ("DELETE", "/v1/audits/<audit_id>"): Entry(404, queries={"cancel=true": 404}),
    ("POST", "/v1/audits/<audit_id>/priority"): PRIORITY,
    ("POST", "/v1/audits/<audit_id>/retry"): FOREIGN,
    ("GET", "/v1/catalog"): OWN,
    ("POST", "/v1/datasets"): Entry(422, {"name": "mine", "dataset": DATASET}),
    ("GET", "/v1/datasets"): Entry(200, queries={"name={dataset}": 200}),
    ("GET", "/v1/datasets/<name>"): FOREIGN,
    ("DELETE", "/v1/datasets/<name>"): Entry(404, queries={"derived=true": 404}),
    ("GET", "/v1/datasets/<name>/versions/<version>"): FOREIGN,
    ("PATCH", "/v1/datasets/<name>/versions/<version>"): LABELS,
    ("DELETE", "/v1/datasets/<name>/versions/<version>"): FOREIGN,
    ("POST", "/v1/jobs"): Entry(
        422, {"stage": "sleep", "inputs": {"BASE": "{job}"}}, {"dry_run=true": 422}
    ),
    ("GET", "/v1/jobs"): Entry(200, queries={"audit={audit}": 404, "state=queued": 200}),
    ("GET", "/v1/jobs/<job_id>"): FOREIGN,
    ("POST", "/v1/jobs/<job_id>/cancel"): FOREIGN,
    ("GET", "/v1/jobs/<job_id>/preview"): Entry(404, queries={"step=1": 404}),
    ("POST", "/v1/jobs/<job_id>/priority"): PRIORITY,
    ("POST", "/v1/jobs/cancel"): Entry(404, {"audit": "{audit}"}, {"dry_run=true": 404}),
    ("GET", "/v1/jobs/<job_id>/events"): Entry(404, queries={"after=1": 404}),
    ("POST", "/v1/jobs/<job_id>/pause"): FOREIGN,
    ("POST", "/v1/jobs/<job_id>/resume"): FOREIGN,
    ("POST", "/v1/jobs/<job_id>/retry"): FOREIGN,
    ("GET", "/v1/keys"): Entry(403, queries={"tenant=anna-corp": 403}),
    ("POST", "/v1/keys"): Entry(403, {"tenant": ANNA}),
    ("POST", "/v1/keys/<key_id>/revoke"): OPERATORS,
    ("GET", "/v1/me"): OWN,
    ("POST", "/v1/models"): Entry(422, {**MODEL, "weights": "{upload}"}),
    ("GET", "/v1/models"): Entry(200, queries={"label=owner%3Danna": 200}),
    ("GET", "/v1/models/<name>"): FOREIGN,
    ("DELETE", "/v1/models/<name>"): Entry(404, queries={"derived=true": 404}),
    ("GET", "/v1/models/<name>/versions/<version>"): FOREIGN,
    ("PATCH", "/v1/models/<name>/versions/<version>"): LABELS,
    ("DELETE", "/v1/models/<name>/versions/<version>"): FOREIGN,
    ("GET", "/metrics"): OPERATORS,
    ("GET", "/v1/queues"): OWN,
    ("POST", "/v1/queues/<stage>/pause"): OPERATORS,
    ("POST", "/v1/queues/<stage>/resume"): OPERATORS,
    ("GET", "/v1/tenants"): OPERATORS,
    ("POST", "/v1/tenants"): Entry(403, {"name": "anna-corp-2"}),
    ("GET", "/v1/webhooks"): OWN,
    ("POST", "/v1/webhooks"): Entry(201, {"url": "https://93.184.215.14/hook"}),
    ("DELETE", "/v1/webhooks/<webhook_id>"): FOREIGN,
    ("GET", "/v1/webhooks/<webhook_id>/deliveries"): FOREIGN,
    ("POST", "/v1/webhooks/<webhook_id>/test"): FOREIGN,
    ("GET", "/v1/workers"): OWN,
    ("POST", "/v1/workers/<worker_id>/drain"): OPERATORS,
    ("POST", "/v1/workers/<worker_id>/undrain"): OPERATORS,
}
# More ways to ask for what is Anna's: route, body.
REFERENCES: list[tuple[str, Any]] = [
    ("/v1/jobs", {"stage": "sleep", "inputs": {"BASE": "{artifact}"}}),
    ("/v1/jobs", {"stage": "sleep", "inputs": {"BASE": {"job": "{job}", "role": "BASE"}}}),
    ("/v1/jobs", {"stage": "train", "from": "{job}", "params": {"dataset": "digits"}}),
    ("/v1/jobs", {"stage": "inspect_dataset", "params": {"dataset": DATASET}}),
    ("/v1/audits", {**AUDIT, "dataset": "dataset:{dataset}"}),
    ("/v1/models", {**MODEL, "weights": "{artifact}"}),
    ("/v1/models", {**MODEL, "weights": "{upload}", "test": "dataset:{dataset}"}),
]


@dataclass
class World:
    """A gateway with things of Anna's in every state, and what names them."""

    gateway: GatewayInProcess
    things: dict[str, str]
    needles: set[str]

    def make_client(self, tenant: str, *scopes: str) -> AuthenticatedClient:
        return make_client(self.gateway.app, make_key(self.gateway.db, tenant, *scopes))

    def fill(self, value: Any) -> Any:
        """Names of things replaced by Anna's."""
        if isinstance(value, bytes):
            return value
        text = json.dumps(value)
        for name, thing in self.things.items():
            text = text.replace(f"{{{name}}}", thing)
        return json.loads(text)

    def build_path(self, rule: str) -> str:
        kind = "model" if "/models" in rule else "dataset"
        values = {
            **{argument: self.things[name] for argument, name in FIELD.items()},
            "name": self.things[kind],
            "version": "1",
            "stage": "sleep",
            "worker_id": "hand",
            "path:filename": "none.js",
        }
        for argument, value in values.items():
            rule = rule.replace(f"<{argument}>", value)
        assert "<" not in rule
        return rule

    def require_nothing_of_anna(self, answer: Any, *asked: str) -> None:
        """That an answer has nothing of hers, but what the question had."""
        text = f"{answer.headers}\n{answer.get_data(as_text=True)}"
        seen = [n for n in self.needles if n in text and not any(n in one for one in asked)]
        assert seen == [], (asked, text[:2000])


def _send(client: AuthenticatedClient, method: str, path: str, body: Any, **headers: str) -> Any:
    content = {"data": body} if isinstance(body, bytes) else {} if body is None else {"json": body}
    return client._send(method, path, headers=headers, **content)


def _find_things(anna: AuthenticatedClient, gateway: GatewayInProcess) -> dict[str, str]:
    """Post, upload and declare one of each, and leave jobs in every state."""

    def post(path: str, body: Any) -> dict[str, Any]:
        answer = _send(anna, "POST", path, body)
        assert answer.status_code < 300, answer.get_data(as_text=True)
        return dict(answer.get_json())

    worker = gateway.make_worker()
    audit = post("/v1/audits", {**AUDIT, "name": "annas-audit"})["id"]
    worker.finish_all()
    upload = post("/v1/artifacts", b"annas-weights")["sha256"]
    labels = {"labels": {"owner": "anna"}}
    post("/v1/models", {**MODEL, "name": "annas-model", "weights": upload, **labels})
    file = {"name": "own", "params": {"path": f"upload:{upload}"}}
    post("/v1/datasets", {"name": "annas-data", "dataset": file, **labels})
    for _ in range(2):
        worker.finish(worker.claim())
    done, failed, running, cancelled, paused, _queued = (
        post("/v1/jobs", {"stage": "sleep", "seed": n, "params": {"note": "annas-note"}})["id"]
        for n in range(6)
    )
    claim = worker.claim()
    worker.show(claim, 1, 2)
    artifact = worker.finish(claim, b"annas-artifact")
    worker.fail(worker.claim(), "annas-failure")
    worker.report_progress(worker.claim(), 1, 2)
    post(f"/v1/jobs/{cancelled}/cancel", None)
    post(f"/v1/jobs/{paused}/pause", None)
    webhook = post("/v1/webhooks", {"url": "https://93.184.215.14/annas-hook"})["id"]
    return {
        "webhook": webhook, "audit": audit, "upload": upload, "artifact": artifact, "model": "annas-model",
        "dataset": "annas-data", "job": done, "failed": failed, "running": running,
    }  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    gateway = GatewayInProcess(
        tmp_path_factory.mktemp("gateway"), max_failed_keys_per_minute=1_000_000
    )
    secret = make_key(gateway.db, ANNA)
    things = _find_things(make_client(gateway.app, secret), gateway)
    things["key"] = find_id(gateway.db, secret)
    with gateway.db.read() as connection:
        ids = {
            value
            for table in metadata.sorted_tables
            for row in connection.execute(select(table)).mappings()
            for column, value in row.items()
            if (row.get("tenant") == ANNA or "job" in row or "audit" in row)
            and column in ("id", "job", "audit", "sha256", "request_key", "cache_key", "digest")
            and isinstance(value, str)  # numbers name nothing
        }
    assert len(ids) > 50
    words = {"anna", *(f"annas-{n}" for n in ("audit", "model", "data", "note", "failure"))}
    yield World(gateway, things, ids | words | {secret})
    gateway.close()


def _list_routes(gateway: GatewayInProcess) -> set[tuple[str, str]]:
    return {
        (method, rule.rule)
        for rule in gateway.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }


def test_every_route_has_an_entry(world: World) -> None:
    assert _list_routes(world.gateway) == ENTRIES.keys()


def test_nobody_gets_in_without_a_valid_key(world: World) -> None:
    db, app = world.gateway.db, world.gateway.app
    expired = end_key(db, make_key(db, ANNA, *SCOPES))
    revoked = make_key(db, ANNA, *SCOPES)
    keys.revoke_key(db, find_id(db, revoked), has_token=True)
    clients = {
        "none": app.test_client(use_cookies=False),
        "expired": make_client(app, expired),
        "revoked": make_client(app, revoked),
        "unknown": make_client(app, f"pal_{'A' * 43}"),
    }
    with db.read() as connection:
        before = connection.execute(select(access_log)).all()
    for (method, rule), entry in ENTRIES.items():
        path = world.build_path(rule)
        for asked_method in (method, "OPTIONS", *(["HEAD"] if method == "GET" else [])):
            rejections = set()
            for name, client in clients.items():
                sender: Any = client.open if name == "none" else client._send
                options = {
                    "path": path, "method": asked_method, "headers": {"X-Request-ID": "one"},
                }  # fmt: skip
                answer = sender(**options)
                if is_public(path):
                    assert answer.status_code in (200, 413, entry.status)
                    world.require_nothing_of_anna(answer, path)
                    continue
                assert answer.status_code == 401, (name, asked_method, path)
                world.require_nothing_of_anna(answer, path)
                if name in ("revoked", "unknown"):
                    rejections.add((str(answer.headers), answer.get_data()))
            assert len(rejections) <= 1  # nothing tells a revoked key from one that never was
        assert entry.status  # the entry is the route's
    with db.read() as connection:  # who is nobody writes no log
        assert connection.execute(select(access_log)).all() == before


def test_a_key_without_the_scope_gets_403(world: World) -> None:
    by_scope = {
        scope: world.make_client(ANNA, *(s for s in SCOPES if s != scope)) for scope in SCOPES
    }
    only_worker = world.make_client(BERT, WORKER)
    asked = 0
    for (method, rule), entry in ENTRIES.items():
        path = world.build_path(rule)
        endpoint = next(
            r.endpoint
            for r in world.gateway.app.url_map.iter_rules()
            if r.rule == rule and method in (r.methods or set())
        )
        scope = find_scope(world.gateway.app, endpoint, method)
        if is_public(path):
            continue
        if scope == ANY:
            assert _send(only_worker, method, path, None).status_code == entry.status
            continue
        for client in (by_scope[scope], only_worker):
            answer = _send(client, method, path, world.fill(entry.body))
            assert answer.status_code == 403, (method, path)
            assert answer.content_type == "application/problem+json"
            assert f"the scope {scope}" in answer.get_json()["detail"]
            world.require_nothing_of_anna(answer, path)
            asked += 1
    assert asked > 90


def test_what_is_another_tenants_is_not_there(world: World) -> None:
    bert = world.make_client(BERT, READ, SUBMIT, WORKER)
    anna = world.make_client(ANNA, READ)
    before = anna.get("/v1/jobs?limit=200").get_json()
    for (method, rule), entry in ENTRIES.items():
        path, body = world.build_path(rule), world.fill(entry.body)
        requests = {path: entry.status}
        requests |= {f"{path}?{world.fill(q)}": s for q, s in entry.queries.items()}
        for request, status in requests.items():
            answer = _send(bert, method, request, body)
            assert answer.status_code == status, (method, request, answer.get_data(as_text=True))
            world.require_nothing_of_anna(answer, request, json.dumps(body, default=str))
            if method == "GET":
                head = _send(bert, "HEAD", request, None)
                assert head.status_code == status
                assert head.get_data() == b""
                world.require_nothing_of_anna(head, request)
        options = _send(bert, "OPTIONS", path, None)
        is_refused = entry.status == 403 and not is_public(path)
        assert options.status_code == (403 if is_refused else 200)
        world.require_nothing_of_anna(options, path)
    for path, template in REFERENCES:
        body = world.fill(template)
        answer = _send(bert, "POST", path, body)
        assert answer.status_code in (404, 422), (path, body, answer.get_data(as_text=True))
        world.require_nothing_of_anna(answer, json.dumps(body))
    sse = bert.get(
        f"/v1/jobs/{world.things['running']}/events", headers={"Accept": "text/event-stream"}
    )
    assert sse.status_code == 404
    assert anna.get("/v1/jobs?limit=200").get_json() == before
    for kind in ("jobs", "audits", "models", "datasets"):
        assert bert.get(f"/v1/{kind}").get_json()["items"] == []
    counts = bert.get("/v1/queues").get_json()["items"]
    assert {json.dumps(one["counts"]) for one in counts} == {"{}"}
    assert [one["job"] for one in bert.get("/v1/workers").get_json()["items"]] == [None]


def test_the_owner_finds_all_of_it(world: World) -> None:
    """So that the matrix does not pass because nothing is there."""
    anna = world.make_client(ANNA, READ, SUBMIT)
    for (method, rule), entry in ENTRIES.items():
        if method == "GET" and entry.status == 404 and not rule.startswith(("/openapi", "/assets")):
            answer = anna.get(world.build_path(rule))
            assert answer.status_code in (200, 409), (rule, answer.get_data(as_text=True))
    assert {one["job"] for one in anna.get("/v1/workers").get_json()["items"]} == {
        world.things["running"]
    }


def test_an_administrator_sees_keys_but_no_jobs_of_others(world: World) -> None:
    operator = world.make_client("operators", ADMIN, READ)
    listed = operator.get("/v1/keys?tenant=anna-corp&limit=200").get_json()["items"]
    assert world.things["key"] in {one["id"] for one in listed}
    assert operator.get(f"/v1/jobs/{world.things['job']}").status_code == 404
    assert operator.get("/v1/jobs").get_json()["items"] == []
