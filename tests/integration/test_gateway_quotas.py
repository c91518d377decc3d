"""Quotas over HTTP: what a tenant may not exceed is refused with 429, or 507 for bytes, and costs
nobody else anything."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.gateway import quota_cache
from shared.jobs.tenants import ensure_tenant, set_quotas
from tests.support.gateway import AUDIT, TENANT, GatewayInProcess
from tests.support.keys import make_client, make_key

SSE = {"Accept": "text/event-stream"}


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GatewayInProcess]:
    """One that reads quotas again at every use."""
    monkeypatch.setattr(quota_cache, "CACHE_S", 0.0)
    made = GatewayInProcess(tmp_path)
    yield made
    made.close()


def limit(gateway: GatewayInProcess, tenant: str = TENANT, **quotas: int | None) -> None:
    ensure_tenant(gateway.db, tenant)
    set_quotas(gateway.db, tenant, quotas)


def make_digest_header(data: bytes) -> dict[str, str]:
    digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
    return {"Content-Digest": f"sha-256=:{digest}:"}


def count_rows(gateway: GatewayInProcess) -> dict[str, int]:
    with gateway.db.read() as connection:
        return {
            table: connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()
            for table in ("jobs", "audits", "events", "idempotency", "access_log", "artifacts")
        }


def test_requests_beyond_the_quota_wait(gateway):
    limit(gateway, max_requests_per_minute=3)
    answers = [gateway.http.get("/v1/jobs") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert [answer.headers["RateLimit"].split(";")[1] for answer in answers] == [
        "r=2",
        "r=1",
        "r=0",
    ]
    assert {answer.headers["RateLimit-Policy"] for answer in answers} == {'"requests";q=3;w=60'}
    before = count_rows(gateway)
    refused = gateway.http.post("/v1/jobs", json={"stage": "sleep"})
    assert refused.status_code == 429
    assert refused.content_type == "application/problem+json"
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert "3 requests per minute" in refused.get_json()["detail"]
    assert count_rows(gateway) == before  # it is not worth a row
    # others, probes, and a lifted quota
    other = make_client(gateway.app, make_key(gateway.db, "acme"))
    assert other.get("/v1/jobs").status_code == 200
    assert "RateLimit" not in other.get("/v1/jobs").headers
    assert gateway.http.get("/livez").status_code == 200
    limit(gateway, max_requests_per_minute=None)
    assert gateway.http.get("/v1/jobs").status_code == 200


def test_who_reads_the_metrics_uses_up_nobody_s_requests(tmp_path):
    gateway = GatewayInProcess(tmp_path, metrics_token="of-prometheus")
    limit(gateway, max_requests_per_minute=1)
    for _ in range(3):
        answer = make_client(gateway.app, "of-prometheus").get("/metrics")
        assert (answer.status_code, "RateLimit" in answer.headers) == (200, False)
    assert gateway.http.get("/metrics").status_code == 200
    assert gateway.http.get("/metrics").status_code == 429  # the token has the tenant's quota
    gateway.close()


def test_a_request_with_a_body_counts_once(gateway):
    limit(gateway, max_requests_per_minute=100)

    async def post() -> list[str]:
        async with gateway.serve() as client:
            return [
                (await client.post("/v1/jobs", json={"stage": "sleep"})).headers["RateLimit"],
                (await client.post("/v1/artifacts", content=b"1,2")).headers["RateLimit"],
            ]

    assert [text.split(";")[1] for text in asyncio.run(post())] == ["r=99", "r=98"]


def test_nothing_of_an_audit_beyond_the_quota_is_stored(gateway):
    limit(gateway, max_queued_jobs=1)
    before = count_rows(gateway)
    refused = gateway.http.post("/v1/audits", json=AUDIT, headers={"Idempotency-Key": "once"})
    assert refused.status_code == 429
    assert "at most 1 of your jobs may wait" in refused.get_json()["detail"]
    assert "Retry-After" not in refused.headers  # time alone does not help
    after = count_rows(gateway)
    assert {**after, "access_log": 0} == {**before, "access_log": 0}
    limit(gateway, max_queued_jobs=None)
    accepted = gateway.http.post("/v1/audits", json=AUDIT, headers={"Idempotency-Key": "once"})
    assert accepted.status_code == 202


def test_bytes_beyond_the_quota_are_refused(gateway):
    limit(gateway, max_artifact_bytes=10)
    http = gateway.http
    assert http.post("/v1/artifacts", data=b"123456").status_code == 201
    refused = http.post("/v1/artifacts", data=b"1234567")
    assert (refused.status_code, refused.content_type) == (507, "application/problem+json")
    there = http.post("/v1/artifacts", data=b"123456", headers=make_digest_header(b"123456"))
    assert there.status_code == 200
    other = make_client(gateway.app, make_key(gateway.db, "acme"))
    assert other.post("/v1/artifacts", data=b"1234567").status_code == 201


def test_bytes_beyond_the_quota_are_refused_before_they_come(gateway):
    limit(gateway, max_artifact_bytes=100_000)
    received = 0

    async def send() -> AsyncIterator[bytes]:
        nonlocal received
        for _ in range(10):
            received += 50_000
            yield b"x" * 50_000

    async def post(content: Any, **headers: str) -> int:
        async with gateway.serve() as client:
            return (
                await client.post("/v1/artifacts", content=content, headers=headers)
            ).status_code

    assert asyncio.run(post(send(), **{"Content-Length": "500000"})) == 507
    assert received == 0
    header = make_digest_header(b"123")
    assert asyncio.run(post(b"123", **header)) == 201
    limit(gateway, max_artifact_bytes=3)
    assert asyncio.run(post(b"123", **header)) == 200  # what is there takes no more room


def test_event_streams_beyond_the_quota_are_refused(gateway):
    limit(gateway, max_event_streams=1)
    job = gateway.post()["id"]
    path = f"/v1/jobs/{job}/events"

    async def follow_twice() -> tuple[httpx.Response, httpx.Response, httpx.Response]:
        async with gateway.serve() as client:
            streams = [client.get(path, headers=SSE) for _ in range(2)]
            return await asyncio.gather(*streams, client.get(path))

    *streams, page = asyncio.run(follow_twice())
    followed, refused = sorted(streams, key=lambda answer: answer.status_code)
    assert (followed.status_code, refused.status_code, page.status_code) == (200, 429, 200)
    assert "event streams you have open: 1" in refused.json()["detail"]
