"""Request ids, and what stands in the log of a gateway: no secret does."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from structlog.contextvars import merge_contextvars

from shared.errors import TransientError
from tests.support.gateway import TENANT, TOKEN, GatewayInProcess, serve_gateway

CANARY = "canary-2f61"  # in every secret of this file


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayInProcess]:
    made = GatewayInProcess(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("given", ["abc", "a-b_c.d", "A" * 128, "0af7651916cd43dd8448eb211c80319c"])
def test_a_well_formed_request_id_is_kept(gateway: GatewayInProcess, given: str) -> None:
    answer = gateway.http.get("/v1/jobs", headers={"X-Request-ID": given})
    assert answer.headers["X-Request-ID"] == given
    missing = gateway.http.get(f"/v1/jobs/job_{'0' * 20}", headers={"X-Request-ID": given})
    assert missing.get_json()["request_id"] == given


@pytest.mark.parametrize(
    "given", ["", " ", "a b", "A" * 129, "<script>", "a\x7fb", "-a", "ü", "{}"]
)
def test_any_other_request_id_is_replaced(gateway: GatewayInProcess, given: str) -> None:
    answer = gateway.http.get("/nowhere", headers={"X-Request-ID": given})
    made = answer.headers["X-Request-ID"]
    assert re.fullmatch(r"[0-9a-f]{32}", made)
    assert answer.get_json()["request_id"] == made


def test_each_request_has_an_id_of_its_own(gateway: GatewayInProcess) -> None:
    ids = {gateway.http.get("/v1/jobs").headers["X-Request-ID"] for _ in range(5)}
    assert len(ids) == 5


def test_a_refusal_before_the_application_has_the_id_too(gateway: GatewayInProcess) -> None:
    async def post() -> httpx.Response:
        async with gateway.serve() as client:
            body = b"x" * (2 << 20)
            return await client.post("/v1/jobs", content=body, headers={"X-Request-ID": "mine"})

    answer = asyncio.run(post())
    assert answer.status_code == 413
    assert (answer.headers["X-Request-ID"], answer.json()["request_id"]) == ("mine", "mine")


def test_lines_name_the_request_and_the_tenant(
    gateway: GatewayInProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise TransientError("away")

    monkeypatch.setattr(type(gateway.db), "read", fail)
    with structlog.testing.capture_logs(processors=[merge_contextvars]) as lines:
        gateway.http.get("/v1/jobs", headers={"X-Request-ID": "mine"})
        gateway.http.client.get("/readyz", headers={"X-Request-ID": "probe"})
    assert [(line["request_id"], line.get("tenant")) for line in lines] == [
        ("mine", TENANT),
        ("probe", None),
    ]


@pytest.mark.slow
def test_no_secret_gets_into_the_log(tmp_path: Path) -> None:
    token, scrape_token = f"token-{CANARY}", f"scrape-{CANARY}"
    broker = f"redis://:redis-{CANARY}@127.0.0.1:1/0"
    with serve_gateway(
        tmp_path,
        PALIMPSEST_TOKEN=token,
        PALIMPSEST_METRICS_TOKEN=scrape_token,
        PALIMPSEST_BROKER_URL=broker,
    ) as served:
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=served.url, trust_env=False, timeout=60) as client:
            webhook = client.post(
                "/v1/webhooks",
                headers=headers,
                json={"url": f"https://receiver.example/{CANARY}"},
            ).json()
            secret = webhook["secret"]
            client.post(f"/v1/webhooks/{webhook['id']}/test", headers=headers)
            client.post("/v1/webhooks", headers=headers, json={"url": f"http://x/{CANARY}"})
            client.get("/metrics", headers={"Authorization": f"Bearer {scrape_token}"})
            client.get("/v1/jobs", headers={"Authorization": f"Bearer wrong-{CANARY}"})
            client.get(f"/?token={token}")
            client.get(f"/v1/jobs?token=wrong-{CANARY}")
            client.post("/v1/jobs", headers=headers, json={"stage": "sleep"})
            client.get("/readyz")  # the broker is away
            # an unexpected error, with its traceback
            with served.db.write() as connection:
                connection.exec_driver_sql("CREATE UNIQUE INDEX one ON webhooks (tenant)")
            url = f"https://receiver.example/{CANARY}"
            answer = client.post("/v1/webhooks", headers=headers, json={"url": url})
            assert answer.status_code == 500
    log = (tmp_path / "gateway.log").read_text()
    assert "unexpected error" in log
    assert CANARY not in log
    assert secret not in log
    assert "whsec_" not in log
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert all(line["request_id"] for line in lines if line["event"] == "unexpected error")
    assert TOKEN not in log
