"""The gateway as it is served: its own process, real sockets, killed in the middle."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from services.client import Client
from shared.failpoints import FAILPOINT_VARIABLE
from shared.jobs import queries, worker_registry
from shared.jobs.database import Database
from shared.jobs.migrations import migrate
from tests.support.gateway import TENANT, TOKEN, GatewayProcess, make_catalog, serve_gateway
from tests.support.servers import create_database, serve_postgres
from tests.support.waiting import TIMEOUT_S

pytestmark = pytest.mark.slow

SSE = {"Accept": "text/event-stream"}


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    with serve_gateway(tmp_path, PALIMPSEST_MAX_EVENT_STREAMS="2") as served:
        yield served


def http(gateway: GatewayProcess) -> httpx.Client:
    return httpx.Client(
        base_url=gateway.url,
        headers={"Authorization": f"Bearer {TOKEN}"},
        trust_env=False,
        timeout=TIMEOUT_S,
    )


def test_events_arrive_while_they_happen_and_a_broken_stream_resumes(gateway):
    worker = gateway.make_worker()
    with http(gateway) as client:
        job = client.post("/v1/jobs", json={"stage": "sleep"}).json()
        path = f"/v1/jobs/{job['id']}/events"
        claim = worker.claim()
        ids: list[str] = []
        with client.stream("GET", path, headers=SSE) as stream:
            for line in stream.iter_lines():
                if line.startswith("id: "):
                    ids.append(line[4:])
                if ids == ["1", "2"]:
                    sent = time.monotonic()
                    worker.report_progress(claim, 1, 2)
                if ids == ["1", "2", "3"]:
                    assert time.monotonic() - sent < 5  # it came while the stream was open
                    break
        worker.report_progress(claim, 2, 2)
        worker.finish(claim)
        with client.stream("GET", path, headers={**SSE, "Last-Event-ID": ids[-1]}) as stream:
            assert [line[4:] for line in stream.iter_lines() if line.startswith("id: ")] == [
                "4",
                "5",
            ]


def test_a_reader_that_leaves_makes_room(gateway):
    with http(gateway) as client:
        job = client.post("/v1/jobs", json={"stage": "sleep"}).json()
        worker = gateway.make_worker()
        claim = worker.claim()
        path = f"/v1/jobs/{job['id']}/events"
        done = 0
        for _ in range(6):  # three times as many as there is room for
            until = time.monotonic() + TIMEOUT_S
            while _full(client, path):
                done += 1
                # a server notices when it next has something to send
                worker.report_progress(claim, done, 1000)
                assert time.monotonic() < until
                time.sleep(0.1)


def _full(client: httpx.Client, path: str) -> bool:
    """Open a stream, if there is room, and leave it."""
    with client.stream("GET", path, headers=SSE) as stream:
        if stream.status_code == 200:
            next(stream.iter_lines())
        return stream.status_code == 503


def test_a_long_answer_comes_whole_and_may_be_left(gateway):
    data = bytes(range(256)) * 40_000
    with http(gateway) as client:
        client.post("/v1/jobs", json={"stage": "sleep"})
        worker = gateway.make_worker()
        path = f"/v1/artifacts/{worker.finish(worker.claim(), data)}"
        for _ in range(40):  # more than there are threads
            with client.stream("GET", path) as answer:
                next(answer.iter_raw())
        assert client.get(path).content == data
        head = client.head(path)
        assert (head.headers["Content-Length"], head.content) == (str(len(data)), b"")
    assert "Traceback" not in (gateway.folder / "gateway.log").read_text()


@pytest.mark.parametrize(
    ("point", "kept"), [("gateway.before_commit", 0), ("gateway.after_commit", 1)]
)
def test_a_kill_around_the_commit_neither_loses_nor_doubles_a_job(tmp_path, point, kept):
    with serve_gateway(tmp_path, **{FAILPOINT_VARIABLE: point}) as gateway:
        headers = {"Idempotency-Key": "once"}
        with http(gateway) as client, pytest.raises(httpx.TransportError):
            client.post("/v1/jobs", json={"stage": "sleep"}, headers=headers)
        stored = queries.list_jobs(gateway.db, TENANT).items
        assert len(stored) == kept
        gateway.stop(signal.SIGKILL)
        gateway.start(**{FAILPOINT_VARIABLE: ""})
        with http(gateway) as client:
            answer = client.post("/v1/jobs", json={"stage": "sleep"}, headers=headers)
        assert answer.status_code == 202
        assert answer.headers.get("Idempotency-Replayed") == ("true" if kept else None)
        assert [j.id for j in queries.list_jobs(gateway.db, TENANT).items] == [answer.json()["id"]]


def test_the_client_gets_its_job_through_over_a_restart(tmp_path):
    with serve_gateway(tmp_path, **{FAILPOINT_VARIABLE: "gateway.after_commit"}) as gateway:
        revived = threading.Timer(
            1.0, lambda: (gateway.stop(signal.SIGKILL), gateway.start(**{FAILPOINT_VARIABLE: ""}))
        )
        revived.start()
        job = Client(gateway.url, TOKEN, retry_for_s=60).submit_job("sleep")
        revived.join()
        assert [j.id for j in queries.list_jobs(gateway.db, TENANT).items] == [job.id]
        assert job.created


def test_a_process_that_died_is_replaced_and_the_gateway_still_ends_when_told(tmp_path):
    with (
        serve_gateway(tmp_path, **{FAILPOINT_VARIABLE: "gateway.after_commit"}) as gateway,
        http(gateway) as client,
    ):
        with pytest.raises(httpx.TransportError):
            client.post("/v1/jobs", json={"stage": "sleep"})
        began = time.monotonic()
        gateway.stop()  # while the new process starts
        assert time.monotonic() - began < 25


def test_many_at_once_get_one_job(gateway):
    ids, errors = [], []

    def post() -> None:
        try:
            with http(gateway) as client:
                ids.append(client.post("/v1/jobs", json={"stage": "sleep"}).json()["id"])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=post) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(ids) == 12
    assert len(set(ids)) == 1


def test_bodies_as_a_network_sends_them(gateway):
    with http(gateway) as client:
        chunked = client.post(
            "/v1/jobs",
            content=iter([b'{"stage":', b'"sleep"}']),
            headers={"Content-Type": "application/json"},
        )
        assert chunked.status_code == 202
        large = client.post(
            "/v1/jobs", content=b"x" * (3 << 20), headers={"Content-Type": "application/json"}
        )
        assert (large.status_code, large.headers["Content-Type"]) == (
            413,
            "application/problem+json",
        )


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"PALIMPSEST_TOKEN": ""}, "does not start without a token or a valid key"),
        ({"PALIMPSEST_DATABASE_URL": "sqlite:///none.db"}, "python -m services.admin migrate"),
        (
            {"PALIMPSEST_DATABASE_URL": "postgresql+psycopg://u:hush@127.0.0.1:1/x"},
            "did not answer",
        ),
    ],
)
def test_it_says_in_plain_words_why_it_does_not_start(tmp_path, env, words):
    served = GatewayProcess(tmp_path)
    command = [sys.executable, "-m", "services.gateway", "--port", str(served.port)]
    done = subprocess.run(
        command,
        env={**served.env, **env},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert "hush" not in done.stderr


def test_the_log_holds_no_token(gateway):
    with http(gateway) as client:
        client.get(f"/openapi/?token={TOKEN}")
        client.post("/v1/jobs", json={"stage": "sleep"})
    gateway.stop()
    assert TOKEN not in (gateway.folder / "gateway.log").read_text()


@pytest.mark.slow
def test_it_serves_postgresql_too(tmp_path):
    # not below tmp_path: its server runs as another user, and pytest closes that folder to all
    # others
    with serve_postgres() as server:
        url = create_database(server)
        db = Database(url)
        migrate(db)
        worker_registry.publish_catalog(db, make_catalog())
        with (
            serve_gateway(tmp_path, PALIMPSEST_DATABASE_URL=url) as gateway,
            http(gateway) as client,
        ):
            for body in ({"stage": "sleep"}, {"stage": "sleep"}):
                answer = client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "k"})
                assert answer.status_code == 202
            job = answer.json()["id"]
            assert client.get("/v1/jobs?limit=1").json()["items"][0]["id"] == job
            hostile = [
                "/v1/jobs/%00",
                "/v1/jobs?page=%00",
                "/v1/jobs?stage=%00",
                "/v1/artifacts/%00",
                "/v1/jobs?audit=%00",
            ]
            for path in hostile:
                assert client.get(path).status_code in (404, 422)
            nul = json.dumps({"stage": "sleep", "params": {"note": "\0"}})
            posted = client.post(
                "/v1/jobs", content=nul, headers={"Content-Type": "application/json"}
            )
            assert posted.status_code == 422
            assert client.post(f"/v1/jobs/{job}/cancel").json()["state"] == "cancelled"
            assert client.get(f"/v1/jobs/{job}/events", headers=SSE).text.count("id: ") == 2
        db.close()
