"""Both clients on a gateway that is a dictionary: what takes several calls."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from services.client import AsyncClient, Client, NoReport

REPORT, HTML = b'{"rows": [{"seed": 4}], "missing": []}', b"<p>4"
MANIFEST = {"payloadType": "a", "payload": "", "signatures": []}
SHAS = {hashlib.sha256(data).hexdigest(): data for data in (REPORT, HTML)}


def job(name: str, stage: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "stage": stage, "state": "running", **more}


def answered(request: httpx.Request) -> httpx.Response:
    path, query = request.url.path, request.url.params
    made = zip(("REPORT", "REPORT_HTML"), SHAS, ("application/json", "text/html"), strict=True)
    artifacts = {
        role: {"sha256": sha, "size": len(SHAS[sha]), "media_type": kind}
        for role, sha, kind in made
    }
    report = job("job_report", "report", state="succeeded", artifacts=artifacts, audits=["aud_1"])
    jobs = {
        "job_report": report,
        "job_train": job("job_train", "train", produces=["ORIGINAL"]),
    }
    if path == "/v1/jobs":
        assert query["stage"] == "report"
        return httpx.Response(
            200, json={"items": [report] if query["audit"] == "aud_1" else [], "next": None}
        )
    if path.endswith("/events"):
        events = [
            {"seq": n, "at": "2024-11-24T06:51:00Z", "kind": "progress", "data": {}}
            for n in range(1, 6)
        ]
        return httpx.Response(
            200, json={"items": [e for e in events if e["seq"] > int(query["after"])][:2]}
        )
    if path.startswith("/v1/artifacts/"):
        return httpx.Response(200, content=SHAS[path.rpartition("/")[2]])
    if path == "/v1/audits/aud_1/manifest":
        return httpx.Response(200, json=MANIFEST)
    return httpx.Response(200, json=jobs[path.rpartition("/")[2]])


async def as_it_is(client: Client) -> dict[str, Any]:
    return {
        "report": client.get_report("aud_1"),
        "history": [e.seq for e in client.list_events("job_train", after=1)],
    }


async def awaited(client: AsyncClient) -> dict[str, Any]:
    return {
        "report": await client.get_report("job_report"),
        "history": [e.seq async for e in client.list_events("job_train", after=1)],
    }


@pytest.fixture
def sync() -> Client:
    made = Client("http://gateway", "t")
    made._http = httpx.Client(transport=httpx.MockTransport(answered), base_url="http://gateway")
    return made


@pytest.fixture
def asynchronous() -> AsyncClient:
    made = AsyncClient("http://gateway", "t")
    made._http = httpx.AsyncClient(
        transport=httpx.MockTransport(answered), base_url="http://gateway"
    )
    return made


@pytest.mark.parametrize(("which", "ask"), [("sync", as_it_is), ("asynchronous", awaited)])
def test_what_takes_several_calls(
    request: Any, which: str, ask: Callable[[Any], Awaitable[dict[str, Any]]]
) -> None:
    async def scenario() -> dict[str, Any]:
        return await ask(request.getfixturevalue(which))

    found = asyncio.run(scenario())
    report = found["report"]
    assert (report.job, report.json, report.html) == ("job_report", REPORT, HTML)
    assert (report.data, report.manifest) == (json.loads(REPORT), MANIFEST)
    assert found["history"] == [2, 3, 4, 5]


def test_an_audit_without_a_report(sync: Client) -> None:
    with pytest.raises(NoReport, match="aud_2 has no report job"):
        sync.get_report("aud_2")
    with pytest.raises(NoReport, match="job of the stage train"):
        sync.get_report("job_train")


def test_cancelling_by_a_filter_is_repeated_while_jobs_remain(sync: Client) -> None:
    left, asked = [2500], list[dict[str, Any]]()

    def cancel_a_thousand(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.content))
        done = min(left[0], 1000)
        left[0] -= done
        body = {
            "cancelled": done - 1, "stopping": 1, "remaining": left[0],
            "created_before": "2026-01-31T12:00:00Z",
        }  # fmt: skip
        return httpx.Response(200, json=body)

    sync._http = httpx.Client(
        transport=httpx.MockTransport(cancel_a_thousand), base_url="http://gateway"
    )
    done = sync.cancel_jobs(stage="attack")
    assert (done.cancelled, done.stopping, done.remaining) == (2497, 3, 0)
    bounded = {"stage": "attack", "created_before": "2026-01-31T12:00:00Z"}
    assert asked == [{"stage": "attack"}, bounded, bounded]
