"""/v1/jobs/{id}/events: pages, streams, resuming, and what limits a stream."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.gateway import job_events
from shared.errors import TransientError
from shared.jobs.updates import fetch_updates
from tests.support.gateway import GatewayInProcess

SSE = {"Accept": "text/event-stream"}


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayInProcess]:
    made = GatewayInProcess(tmp_path, max_event_streams=2)
    yield made
    made.close()


def frames(text: str) -> list[dict[str, Any]]:
    """Events of a finished stream; each frame's id and name must say what its data says."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(
            line.split(": ", 1)
            for line in block.splitlines()
            if not line.startswith((":", "retry"))
        )
        if fields:
            event = json.loads(fields["data"])
            assert (fields["id"], fields["event"]) == (str(event["seq"]), event["kind"])
            found.append(event)
    return found


def a_finished_job(gateway: GatewayInProcess) -> str:
    job, worker = gateway.post(), gateway.make_worker()
    claim = worker.claim()
    worker.report_progress(claim, 1, 3, loss=0.5)
    worker.report_progress(claim, 2, 3, loss=0.25)
    worker.finish(claim)
    return str(job["id"])


def test_a_head_request_follows_nothing(gateway, monkeypatch):
    """Not until the stream's time is up, in a slot that others wait for."""
    path = f"/v1/jobs/{gateway.post()['id']}/events"

    async def ask() -> httpx.Response:
        async with gateway.serve() as client:
            return await client.head(path, headers=SSE)

    slots = gateway.app.extensions["palimpsest"].stream_slots
    monkeypatch.setattr(slots, "take", lambda *_: pytest.fail("it takes a slot"))
    answer = asyncio.run(ask())
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["Content-Type"].startswith("text/event-stream")


def test_pages(gateway):
    job = a_finished_job(gateway)
    page = gateway.http.get(f"/v1/jobs/{job}/events").get_json()
    assert [e["seq"] for e in page["items"]] == [1, 2, 3, 4, 5]
    assert [e["kind"] for e in page["items"]] == ["state", "state", "progress", "progress", "state"]
    assert page["items"][2]["data"] == {"done": 1, "total": 3, "loss": 0.5}
    assert page["next"] is None
    first = gateway.http.get(f"/v1/jobs/{job}/events?limit=2").get_json()
    rest = gateway.http.get(f"/v1/jobs/{job}/events?after={first['next']}").get_json()
    assert [e["seq"] for e in first["items"] + rest["items"]] == [1, 2, 3, 4, 5]


def test_a_stream_of_a_finished_job_ends_with_its_end(gateway):
    job = a_finished_job(gateway)
    answer = gateway.http.get(f"/v1/jobs/{job}/events", headers=SSE)
    assert answer.content_type == "text/event-stream"
    assert answer.headers["X-Accel-Buffering"] == "no"
    assert answer.headers["Cache-Control"] == "no-store"
    found = frames(answer.get_data(as_text=True))
    assert [e["seq"] for e in found] == [1, 2, 3, 4, 5]
    assert found[-1]["data"]["to"] == "succeeded"


@pytest.mark.parametrize("how", ["header", "query", "both"])
def test_a_stream_resumes_after_any_event(gateway, how):
    job = a_finished_job(gateway)
    for after in range(5):
        headers = {**SSE, "Last-Event-ID": str(after)} if how != "query" else SSE
        query = {"header": "", "query": f"?after={after}", "both": "?after=0"}[how]
        answer = gateway.http.get(f"/v1/jobs/{job}/events{query}", headers=headers)
        assert [e["seq"] for e in frames(answer.get_data(as_text=True))] == list(
            range(after + 1, 6)
        )
    nothing = gateway.http.get(f"/v1/jobs/{job}/events", headers={**SSE, "Last-Event-ID": "5"})
    assert (nothing.status_code, nothing.get_data()) == (204, b"")


def test_events_come_as_they_happen(gateway):
    job, worker = gateway.post(), gateway.make_worker()
    claim = worker.claim()

    def work() -> None:
        for done in range(1, 4):
            time.sleep(0.1)
            worker.report_progress(claim, done, 3)
        worker.finish(claim)

    thread = threading.Thread(target=work)
    thread.start()
    answer = gateway.follow(f"/v1/jobs/{job['id']}/events")
    found = frames(answer.text)
    thread.join()
    assert [e["seq"] for e in found] == [1, 2, 3, 4, 5, 6]


def test_a_quiet_stream_has_a_heart_and_an_end(gateway):
    job = gateway.post()
    began = time.monotonic()
    text = gateway.follow(f"/v1/jobs/{job['id']}/events").text
    assert time.monotonic() - began > 0.9
    assert text.count(": nothing new") >= 1
    assert [e["seq"] for e in frames(text)] == [1]


def test_a_stream_goes_on_over_a_retry(gateway):
    job, worker = gateway.post(), gateway.make_worker()
    worker.fail(worker.claim())
    gateway.http.post(f"/v1/jobs/{job['id']}/retry")
    worker.finish(worker.claim())
    found = frames(
        gateway.http.get(f"/v1/jobs/{job['id']}/events", headers=SSE).get_data(as_text=True)
    )
    states = [e["data"]["to"] for e in found]
    assert states == ["queued", "running", "failed", "queued", "running", "succeeded"]


def test_more_events_than_a_page(gateway):
    job, worker = gateway.post(), gateway.make_worker()
    claim = worker.claim()
    for done in range(450):
        worker.report_progress(claim, done, 450)
    worker.finish(claim)
    found = frames(gateway.follow(f"/v1/jobs/{job['id']}/events").text)
    assert [e["seq"] for e in found] == list(range(1, 454))


def test_a_server_that_cannot_go_on_ends_the_stream_after_its_beginning(gateway):
    job = gateway.post()
    answer = gateway.http.get(f"/v1/jobs/{job['id']}/events", headers=SSE)
    assert [e["seq"] for e in frames(answer.get_data(as_text=True))] == [1]


def test_too_many_streams_are_refused_and_ended_ones_make_room(gateway):
    path = f"/v1/jobs/{gateway.post()['id']}/events"

    async def crowd() -> list[httpx.Response]:
        async with gateway.serve() as client:
            answers = await asyncio.gather(*(client.get(path, headers=SSE) for _ in range(3)))
            assert (await client.get(path)).status_code == 200  # pages hold nothing
            return answers

    for _ in range(3):  # room is made again each time
        answers = asyncio.run(crowd())
        assert sorted(a.status_code for a in answers) == [200, 200, 503]
        assert next(a for a in answers if a.status_code == 503).headers["Retry-After"].isdecimal()


def test_a_stream_outlives_a_job_store_that_is_away(gateway, monkeypatch):
    job, worker = gateway.post(), gateway.make_worker()
    claim = worker.claim()
    away = threading.Event()

    def news_or_not(*arguments: Any) -> Any:
        if not away.is_set():
            away.set()
            raise TransientError("the job store did not answer")
        worker.finish(claim)
        return fetch_updates(*arguments)

    monkeypatch.setattr(job_events, "fetch_updates", news_or_not)
    found = frames(gateway.follow(f"/v1/jobs/{job['id']}/events").text)
    assert [e["seq"] for e in found] == [1, 2, 3]


@pytest.mark.parametrize(
    ("query", "headers", "field"),
    [
        ("?after=-1", {}, "after"),
        ("?after=99999999999999999999", {}, "after"),
        ("?after=x", {}, "after"),
        ("?limit=201", {}, "limit"),
        ("", {"Last-Event-ID": "x"}, "Last-Event-ID"),
        ("", {"Last-Event-ID": "9" * 5000}, "Last-Event-ID"),
    ],
)
def test_a_wrong_place_to_resume_is_refused(gateway, query, headers, field):
    job = gateway.post()
    for accept in ({}, SSE):
        answer = gateway.http.get(
            f"/v1/jobs/{job['id']}/events{query}", headers={**headers, **accept}
        )
        assert (answer.status_code, answer.get_json()["field"]) == (422, field)
