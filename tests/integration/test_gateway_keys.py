"""Keys over HTTP: who gets in, for how long, and what is noted of it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.gateway import key_cache, key_watch, stream_poller
from services.gateway.app import create_app
from services.gateway.bridge import AsgiBridge
from services.gateway.deps import GatewayDeps, StreamTiming
from services.gateway.job_events import JobEvents
from services.gateway.key_watch import KeyEnded
from services.gateway.sessions import SESSION_COOKIE
from shared.config import Settings
from shared.errors import TransientError
from shared.jobs import access_log, keys, tenants
from shared.jobs.access_log import Entry
from shared.jobs.keys import ADMIN, READ, SCOPES, SUBMIT
from tests.support.gateway import AUDIT, TENANT, TOKEN, GatewayInProcess, GatewayProcess
from tests.support.keys import end_key, find_id, make_client, make_key
from tests.support.waiting import TIMEOUT_S, wait_for

SSE = {"Accept": "text/event-stream"}


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GatewayInProcess]:
    """One that reads a key again at every use."""
    monkeypatch.setattr(key_cache, "CACHE_S", 0.0)
    made = GatewayInProcess(tmp_path)
    yield made
    made.close()


def list_log(gateway: GatewayInProcess) -> list[Entry]:
    """Oldest first."""
    return access_log.list_entries(gateway.db).items[::-1]


def test_a_key_is_its_tenants(gateway):
    secret = make_key(gateway.db, "acme", READ, SUBMIT, lifetime_s=3600)
    client = make_client(gateway.app, secret)
    me = client.get("/v1/me").get_json()
    assert me["expires_at"].endswith("Z")
    assert me == {
        "tenant": "acme",
        "key_id": find_id(gateway.db, secret),
        "label": "of acme",
        "scopes": ["read", "submit"],
        "expires_at": me["expires_at"],
    }
    job = client.post("/v1/jobs", json={"stage": "sleep"}).get_json()["id"]
    assert gateway.http.get(f"/v1/jobs/{job}").status_code == 404
    assert gateway.http.get("/v1/me").get_json()["key_id"] is None
    assert gateway.http.get("/v1/me").get_json()["scopes"] == sorted(SCOPES)


def test_keys_and_tenants_are_made_over_http(gateway):
    made = gateway.http.post("/v1/tenants", json={"name": "acme", "quotas": {"max_queued_jobs": 9}})
    assert made.status_code == 201
    assert made.get_json()["quotas"]["max_queued_jobs"] == 9
    assert gateway.http.post("/v1/tenants", json={"name": "acme"}).status_code == 409
    for wrong in ("A", "", "a\nb", "a" * 65):
        answer = gateway.http.post("/v1/tenants", json={"name": wrong})
        assert answer.status_code == 422
    body = {"tenant": "acme", "label": "laptop", "scopes": ["admin", "read"], "lifetime_s": 600}
    answer = gateway.http.post("/v1/keys", json=body)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (201, "no-store")
    key = answer.get_json()
    operator = make_client(gateway.app, key["key"])
    listed = operator.get("/v1/keys?tenant=acme").get_json()["items"]
    assert [(one["id"], one["state"], "key" in one) for one in listed] == [
        (key["id"], "valid", False)
    ]
    assert [t["name"] for t in operator.get("/v1/tenants").get_json()["items"]] == ["acme"]
    assert gateway.http.post("/v1/keys", json={"tenant": "none"}).get_json()["field"] == "tenant"
    revoked = gateway.http.post(f"/v1/keys/{key['id']}/revoke").get_json()
    assert revoked["state"] == "revoked"
    assert operator.get("/v1/me").status_code == 401
    assert gateway.http.post(f"/v1/keys/{key['id']}/revoke").get_json() == revoked
    assert gateway.http.post(f"/v1/keys/key_{'0' * 20}/revoke").status_code == 404
    assert [(e.action, e.subject, e.status) for e in list_log(gateway)] == [
        ("POST /v1/tenants", "acme", 201),
        ("POST /v1/tenants", "", 409),
        *[("POST /v1/tenants", "", 422)] * 4,
        ("POST /v1/keys", key["id"], 201),
        ("POST /v1/keys", "", 422),
        ("POST /v1/keys/{key_id}/revoke", key["id"], 200),
        ("POST /v1/keys/{key_id}/revoke", key["id"], 200),
        ("POST /v1/keys/{key_id}/revoke", f"key_{'0' * 20}", 404),
    ]


def test_without_a_token_the_last_administrator_stays(tmp_path):
    made = GatewayInProcess(tmp_path)
    secret = make_key(made.db, "acme", ADMIN)
    app = create_app(GatewayDeps(made.db, made.artifacts, made.wakeup_sender, Settings(token=None)))
    client = make_client(app, secret)
    path = f"/v1/keys/{find_id(made.db, secret)}/revoke"
    assert client.post(path).status_code == 409
    assert make_client(app, TOKEN).get("/v1/me").status_code == 401
    other = client.post("/v1/keys", json={"tenant": "acme", "scopes": ["admin"]}).get_json()
    assert client.post(path).status_code == 200
    assert make_client(app, other["key"]).get("/v1/me").status_code == 200
    made.close()


def test_only_an_expired_key_is_told_from_others(gateway):
    revoked, expired, disabled, both = (make_key(gateway.db, t) for t in ("a", "a", "b", "a"))
    keys.revoke_key(gateway.db, find_id(gateway.db, revoked), has_token=True)
    end_key(gateway.db, expired)
    keys.revoke_key(gateway.db, find_id(gateway.db, end_key(gateway.db, both)), has_token=True)
    tenants.disable_tenant(gateway.db, "b", has_token=True)
    unknown = f"pal_{'x' * 43}"
    answers = {
        name: make_client(gateway.app, secret).get("/v1/jobs", headers={"X-Request-ID": "one"})
        for name, secret in {
            "revoked": revoked, "disabled": disabled, "both": both, "unknown": unknown,
            "short": "pal_x", "token": f"{TOKEN}x", "expired": expired,
        }.items()
    }  # fmt: skip
    assert {one.status_code for one in answers.values()} == {401}
    said = answers.pop("expired")
    assert said.get_json()["detail"] == "the key has expired"
    assert len({(str(one.headers), one.get_data()) for one in answers.values()}) == 1


def test_a_remembered_key_of_a_disabled_tenant_stores_nothing(gateway, monkeypatch):
    monkeypatch.setattr("services.gateway.key_cache.CACHE_S", 600.0)
    client = make_client(gateway.app, make_key(gateway.db, "acme"))
    assert client.get("/v1/me").status_code == 200
    tenants.disable_tenant(gateway.db, "acme", has_token=True)
    for path, body in (
        ("/v1/artifacts", {"data": b"a,b\n1,2\n", "content_type": "text/csv"}),
        ("/v1/jobs", {"json": {"stage": "pretrain"}}),
        ("/v1/webhooks", {"json": {"url": "https://example.com/", "events": ["job.failed"]}}),
    ):
        refused = client.post(path, **body)
        assert (refused.status_code, path) == (409, path)
        assert "disabled or deleted meanwhile" in refused.get_json()["detail"]
    assert client.get("/v1/artifacts").get_json()["items"] == []
    assert client.get("/v1/jobs").get_json()["items"] == []


def test_a_use_is_noted(gateway):
    secret = make_key(gateway.db, "acme")
    key_id = find_id(gateway.db, secret)
    assert keys.get_key(gateway.db, key_id).last_used_at is None
    make_client(gateway.app, secret).get("/v1/me")
    wait_for(lambda: keys.get_key(gateway.db, key_id).last_used_at, TIMEOUT_S, "it is noted")


class TestBrowser:
    def sign_in(self, gateway: GatewayInProcess, secret: str) -> Any:
        client = gateway.app.test_client()
        answer = client.get(f"/openapi/?token={secret}")
        assert (answer.status_code, answer.headers["Location"]) == (303, "/openapi/")
        return client

    def test_a_cookie_is_of_the_key_and_ends_with_it(self, gateway):
        secret = make_key(gateway.db, "acme", lifetime_s=600)
        client = self.sign_in(gateway, secret)
        cookie = client.get_cookie(SESSION_COOKIE)
        assert secret not in cookie.value
        assert keys.compute_digest(secret) not in cookie.value
        assert 500 < cookie.max_age <= 600
        assert (cookie.http_only, cookie.same_site) == (True, "Strict")
        assert client.get("/v1/me").get_json()["tenant"] == "acme"
        assert client.post("/v1/jobs", json={"stage": "sleep"}).status_code == 403  # no origin
        own = {"Origin": "http://localhost"}
        assert client.post("/v1/jobs", json={"stage": "sleep"}, headers=own).status_code == 202
        end_key(gateway.db, secret)
        answer = client.get("/v1/me")
        assert (answer.status_code, answer.get_json()["detail"]) == (401, "the key has expired")

    def test_a_cookie_dies_with_its_key_also_in_another_process(self, gateway):
        secret = make_key(gateway.db, "acme")
        client = self.sign_in(gateway, secret)
        another = create_app(
            GatewayDeps(gateway.db, gateway.artifacts, gateway.wakeup_sender, gateway.settings)
        ).test_client()
        another.set_cookie(SESSION_COOKIE, client.get_cookie(SESSION_COOKIE).value)
        assert another.get("/v1/me").get_json()["tenant"] == "acme"
        keys.revoke_key(gateway.db, find_id(gateway.db, secret), has_token=True)
        assert client.get("/v1/me").status_code == 401
        assert another.get("/v1/me").status_code == 401

    def test_a_cookie_that_was_not_signed_here_is_refused(self, gateway, tmp_path):
        secret = make_key(gateway.db, "acme")
        value = self.sign_in(gateway, secret).get_cookie(SESSION_COOKIE).value
        elsewhere = GatewayInProcess(tmp_path / "elsewhere")
        foreign = self.sign_in(elsewhere, make_key(elsewhere.db, "acme"))
        head, _, signature = value.rpartition(".")
        for wrong in (
            foreign.get_cookie(SESSION_COOKIE).value,
            f"{head}.{signature[::-1]}",
            value[:-2],
            find_id(gateway.db, secret),
            ".".join("a" * 3),
            "." * 600,
        ):
            client = gateway.app.test_client()
            client.set_cookie(SESSION_COOKIE, wrong)
            assert client.get("/v1/me").status_code == 401, wrong
        elsewhere.close()


class TestStream:
    def follow(self, tmp_path: Path, end: Callable[[GatewayInProcess, str], None]) -> str:
        """What a stream of a queued job had sent when it ended. Its key ends meanwhile."""
        made = GatewayInProcess(
            tmp_path, timing=StreamTiming(poll_s=0.02, heartbeat_s=0.1, max_duration_s=TIMEOUT_S)
        )
        secret = make_key(made.db, "acme")
        job = make_client(made.app, secret).post("/v1/jobs", json={"stage": "sleep"}).get_json()

        async def follow() -> str:
            async with made.serve(secret) as client:
                following = asyncio.create_task(
                    client.get(f"/v1/jobs/{job['id']}/events", headers=SSE)
                )
                await asyncio.sleep(0.2)
                assert not following.done()
                end(made, secret)
                return (await asyncio.wait_for(following, TIMEOUT_S)).text

        try:
            return asyncio.run(follow())
        finally:
            made.close()

    @staticmethod
    def revoke(made: GatewayInProcess, secret: str) -> None:
        keys.revoke_key(made.db, find_id(made.db, secret), has_token=True)

    @pytest.mark.parametrize("how", ["revoked", "expired"])
    def test_it_ends_with_its_key(self, tmp_path, monkeypatch, how):
        monkeypatch.setattr(stream_poller, "KEY_CHECK_S", 0.0)
        end = self.revoke if how == "revoked" else lambda made, secret: end_key(made.db, secret)
        assert self.follow(tmp_path, end).count("id: ") == 1  # the job is still queued

    def test_it_ends_with_its_key_even_if_no_news_can_be_read(self, tmp_path, monkeypatch):
        def away(*_: object) -> None:
            raise TransientError("the job store did not answer")

        monkeypatch.setattr(stream_poller, "KEY_CHECK_S", 0.0)
        monkeypatch.setattr(JobEvents, "fetch", away)
        self.follow(tmp_path, self.revoke)

    def test_a_key_that_was_accepted_from_memory_is_looked_up_at_once(self, tmp_path, monkeypatch):
        monkeypatch.setattr(stream_poller, "KEY_CHECK_S", 3600.0)
        monkeypatch.setattr(key_cache, "CACHE_S", 3600.0)
        made = GatewayInProcess(tmp_path, timing=StreamTiming(0.02, 0.1, TIMEOUT_S))
        secret = make_key(made.db, "acme")
        job = make_client(made.app, secret).post("/v1/jobs", json={"stage": "sleep"}).get_json()
        self.revoke(made, secret)

        async def follow() -> httpx.Response:
            async with made.serve(secret) as client:
                path = f"/v1/jobs/{job['id']}/events"
                return await asyncio.wait_for(client.get(path, headers=SSE), TIMEOUT_S)

        assert asyncio.run(follow()).status_code == 200  # and it has ended
        made.close()


class TestDownloads:
    @pytest.mark.parametrize("is_revoked", [False, True])
    def test_one_that_nobody_reads_ends_with_its_key(self, tmp_path, monkeypatch, is_revoked):
        monkeypatch.setattr(key_watch, "KEY_CHECK_S", 0.05)
        made = GatewayInProcess(tmp_path)
        secret = make_key(made.db, TENANT)
        key = find_id(made.db, secret)
        read_on = asyncio.Event()
        got: list[int] = []

        async def run() -> None:
            async with made.serve(secret) as client:  # more than is read before the first byte
                url = (await client.post("/v1/artifacts", content=bytes(3 << 20))).json()["url"]
            scope = {
                "type": "http", "method": "GET", "path": url, "raw_path": url.encode(),
                "query_string": b"", "scheme": "http", "http_version": "1.1",
                "headers": [(b"authorization", f"Bearer {secret}".encode())],
            }  # fmt: skip

            async def send(message: Any) -> None:
                if got:
                    await read_on.wait()
                got.append(len(message.get("body", b"")))

            running = asyncio.create_task(
                AsgiBridge(made.app, threads=2)(scope, asyncio.Event().wait, send)
            )
            await asyncio.sleep(0.2)
            assert not running.done()
            if is_revoked:
                keys.revoke_key(made.db, key, has_token=True)
            else:
                read_on.set()
            await asyncio.wait_for(running, TIMEOUT_S)

        if is_revoked:
            with pytest.raises(KeyEnded):
                asyncio.run(run())
        else:
            asyncio.run(run())
            assert sum(got) == 3 << 20
        made.close()


class TestWrongKeys:
    def test_after_too_many_an_address_is_not_looked_up(self, tmp_path, monkeypatch):
        made = GatewayInProcess(tmp_path, max_failed_keys_per_minute=5)
        good = make_client(made.app, make_key(made.db, "acme"))
        late = make_client(made.app, make_key(made.db, "acme"))
        assert good.get("/v1/me").status_code == 200
        looked_up = []
        find_key = keys.find_key

        def count(*args: Any, **by: str) -> Any:
            looked_up.append(by)
            return find_key(*args, **by)

        monkeypatch.setattr(keys, "find_key", count)
        for n in range(20):
            answer = make_client(made.app, f"pal_{n:043d}").get("/v1/me")
            assert answer.status_code == (401 if n < 5 else 429)
        assert len(looked_up) == 5
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
        assert answer.content_type == "application/problem+json"
        # who was right before is served, also when the key has to be read again
        monkeypatch.setattr(key_cache, "CACHE_S", 0.0)
        assert good.get("/v1/me").status_code == 200
        assert made.http.get("/v1/me").status_code == 200  # and the token
        assert late.get("/v1/me").status_code == 429
        elsewhere = {"environ_base": {"REMOTE_ADDR": "192.0.2.7"}}
        assert late.get("/v1/me", **elsewhere).status_code == 200
        made.close()

    def test_no_key_at_all_is_no_wrong_key(self, tmp_path):
        made = GatewayInProcess(tmp_path, max_failed_keys_per_minute=1)
        client = made.app.test_client()
        assert {client.get("/v1/me").status_code for _ in range(5)} == {401}
        assert make_client(made.app, make_key(made.db, "acme")).get("/v1/me").status_code == 200
        made.close()


class TestLog:
    def test_it_has_every_change_and_nothing_of_its_body(self, gateway):
        secret = make_key(gateway.db, "acme")
        client = make_client(gateway.app, secret)
        job = client.post("/v1/jobs", json={"stage": "sleep", "params": {"note": "psst"}})
        job_id = job.get_json()["id"]
        client.get(f"/v1/jobs/{job_id}")
        client.post("/v1/jobs?dry_run=true", json={"stage": "sleep"})
        client.post(f"/v1/jobs/{job_id}/cancel")
        twice = client.post("/v1/jobs?dry_run=true&dry_run=false", json={"stage": "sleep"})
        assert (twice.status_code, twice.get_json()["field"]) == (422, "dry_run")
        client.post("/v1/jobs", data=b"{", content_type="application/json")
        reader = make_key(gateway.db, "acme", READ)
        make_client(gateway.app, reader).post(f"/v1/jobs/{job_id}/cancel")
        gateway.app.test_client().post("/v1/jobs", json={"stage": "sleep"})
        client.post("/v1/nothing", json={})
        key_id = find_id(gateway.db, secret)
        entries = list_log(gateway)
        assert {one.tenant for one in entries} == {"acme"}
        assert [(e.actor, e.action, e.subject, e.status) for e in entries] == [
            (key_id, "POST /v1/jobs", job_id, 202),
            (key_id, "POST /v1/jobs/{job_id}/cancel", job_id, 202),
            (key_id, "POST /v1/jobs", "", 400),
            (find_id(gateway.db, reader), "POST /v1/jobs/{job_id}/cancel", job_id, 403),
        ]
        assert "psst" not in str(entries)

    def test_only_a_dry_run_is_left_out(self, gateway):
        job = gateway.post()["id"]
        for answer in ("1", "yes", "on", "TRUE"):  # as pydantic reads it
            dry = gateway.http.post(f"/v1/jobs?dry_run={answer}", json={"stage": "sleep"})
            assert dry.get_json()["dry_run"] is True
        assert len(list_log(gateway)) == 1
        sent = gateway.http.post("/v1/jobs?dry_run=no", json={"stage": "sleep", "seed": 1})
        assert sent.status_code == 202
        for path in (f"/v1/jobs/{job}/cancel", "/v1/keys", "/v1/tenants", "/v1/artifacts"):
            refused = gateway.http.post(f"{path}?dry_run=true", json={})
            assert (refused.status_code, refused.get_json()["field"]) == (422, "dry_run"), path
        assert gateway.http.get(f"/v1/jobs/{job}").get_json()["state"] == "queued"
        assert [e.status for e in list_log(gateway)] == [202, 202, 422, 422, 422, 422]

    def test_a_parameter_of_another_route_hides_nothing(self, gateway):
        upload = gateway.http.post("/v1/artifacts", data=b"a face").get_json()["sha256"]
        assert gateway.http.delete(f"/v1/artifacts/{upload}?derived=0").status_code == 204
        file = {"name": "own", "params": {"path": "x"}}
        refused = gateway.http.post("/v1/datasets?derived=1", json={"name": "a", "dataset": file})
        assert (refused.status_code, refused.get_json()["field"]) == (422, "derived")
        assert [e.subject for e in list_log(gateway)] == [upload, upload, ""]

    def test_what_is_erased_is_not_in_it(self, gateway):
        upload = gateway.http.post("/v1/artifacts", data=b"a face").get_json()["sha256"]
        file = {"name": "own", "params": {"path": f"upload:{upload}"}}
        job = {"stage": "inspect_dataset", "params": {"dataset": file}}
        job_id = gateway.post(job)["id"]
        gateway.http.post(f"/v1/jobs/{job_id}/cancel")
        assert upload in str(list_log(gateway))
        gone = gateway.http.delete(f"/v1/artifacts/{upload}?derived=true")
        assert gone.status_code == 200
        gateway.http.delete(f"/v1/artifacts/{upload}?derived=true")  # 404
        entries = list_log(gateway)
        assert [e.status for e in entries] == [201, 202, 202, 200, 404]
        assert not {upload, job_id} & set(str(entries).split("'"))
        for file in gateway.db.file.parent.iterdir():
            assert upload.encode() not in file.read_bytes(), file.name

    def test_a_deleted_audit_is_not_in_it(self, gateway):
        audit = gateway.http.post("/v1/audits", json=AUDIT).get_json()["id"]
        job = gateway.http.get(f"/v1/jobs?audit={audit}").get_json()["items"][0]["id"]
        gateway.http.post(f"/v1/jobs/{job}/cancel")
        gateway.http.delete(f"/v1/audits/{audit}?cancel=true")
        assert [e.subject for e in list_log(gateway)] == ["", "", ""]

    def test_what_is_deleted_alone_stays_in_it(self, gateway):
        upload = gateway.http.post("/v1/artifacts", data=b"a face").get_json()["sha256"]
        assert gateway.http.delete(f"/v1/artifacts/{upload}").status_code == 204
        assert [e.subject for e in list_log(gateway)] == [upload, upload]

    def test_names_of_erased_declarations_are_not_in_it(self, gateway):
        upload = gateway.http.post("/v1/artifacts", data=b"a face").get_json()["sha256"]
        file = {"name": "own", "params": {"path": f"upload:{upload}"}}
        made = gateway.http.post("/v1/datasets", json={"name": "alice", "dataset": file})
        assert made.status_code == 202
        assert list_log(gateway)[-1].subject == "alice/1"
        worker = gateway.make_worker()
        worker.finish(worker.claim())
        assert gateway.http.delete("/v1/datasets/alice?derived=true").status_code == 200
        assert "alice" not in str(list_log(gateway))

    def test_without_it_nothing_is_changed(self, gateway, monkeypatch):
        def away(*_: object, **__: object) -> None:
            raise TransientError("the job store did not answer")

        monkeypatch.setattr(access_log, "begin_entry", away)
        assert gateway.http.post("/v1/jobs", json={"stage": "sleep"}).status_code == 503
        assert gateway.http.get("/v1/jobs").get_json()["items"] == []

    def test_a_request_with_a_large_body_is_one_entry(self, gateway):
        async def post() -> list[int]:
            async with gateway.serve() as client:
                note = {"stage": "sleep", "params": {"note": "n" * 40_000}}
                large = await client.post("/v1/jobs", content=json.dumps(note), headers={
                    "Content-Type": "application/json"})  # fmt: skip
                upload = await client.post("/v1/artifacts", content=b"w" * 100_000)
                wrong = await client.post(
                    "/v1/artifacts", content=b"w", headers={"Content-Digest": "sha-256=:AA==:"}
                )
                return [large.status_code, upload.status_code, wrong.status_code]

        statuses = asyncio.run(post())
        assert statuses[:2] == [202, 201]
        assert [e.status for e in list_log(gateway)] == statuses

    def test_it_is_never_written_on_the_event_loop(self, gateway, monkeypatch):
        """Where a job store that is locked would stop all streams and probes."""
        threads = []

        def finish(*arguments: object) -> None:
            threads.append(threading.current_thread())
            finish_entry(*arguments)

        async def post() -> list[int]:
            async with gateway.serve() as client:
                large = await client.post("/v1/jobs", content=b"x" * (2 << 20))
                return [large.status_code]

        finish_entry = access_log.finish_entry
        monkeypatch.setattr(access_log, "finish_entry", finish)
        assert asyncio.run(post()) == [413]
        assert len(threads) == 1
        assert threads[0] is not threading.current_thread()


@pytest.mark.slow
def test_it_starts_with_a_key_and_without_a_token(tmp_path):
    served = GatewayProcess(tmp_path, PALIMPSEST_TOKEN="")
    command = [sys.executable, "-m", "services.gateway", "--host", "0.0.0.0", "--port", "1"]
    done = subprocess.run(
        command, env=served.env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "python -m services.admin keys create" in done.stderr
    secret = make_key(served.db, TENANT)
    served.start()
    try:
        headers = {"Authorization": f"Bearer {secret}"}
        answer = httpx.get(f"{served.url}/v1/me", headers=headers, trust_env=False)
        assert answer.json()["tenant"] == TENANT
        with httpx.Client(base_url=served.url, trust_env=False) as client:
            wrong = [
                client.get(
                    "/v1/jobs", headers={"Authorization": f"Bearer pal_{n:043d}"}
                ).status_code
                for n in range(70)
            ]
            assert wrong.count(401) == 60
            assert wrong.count(429) == 10
            assert client.get("/v1/jobs", headers=headers).status_code == 200
    finally:
        served.stop()
        served.db.close()
