"""The gateway dies between commit and answer, or just before; Redis is away: what was posted is
there once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from shared.jobs import queries
from tests.support.servers import find_free_port
from tests.support.system import TENANT, TOKEN, System
from tests.support.waiting import TIMEOUT_S

pytestmark = pytest.mark.timeout(3600)  # each wait has its own limit

HEADERS = {"Authorization": f"Bearer {TOKEN}", "Idempotency-Key": "one"}


@pytest.mark.parametrize(
    ("point", "kept"), [("gateway.before_commit", 0), ("gateway.after_commit", 1)]
)
def test_killed_around_the_commit(
    make_system: Callable[..., System], sleep_tree: Path, point: str, kept: int
) -> None:
    system = make_system(sleep_tree)
    system.start_worker("sleep")
    system.start_reconciler()
    body = {"stage": "sleep", "params": {"effects": str(system.home / "effects"), "tag": "x"}}
    port = find_free_port()
    url = system.start_gateway(port, PALIMPSEST_FAILPOINT=point)
    with pytest.raises(httpx.TransportError):
        httpx.post(f"{url}/v1/jobs", json=body, headers=HEADERS, timeout=TIMEOUT_S)
    assert len(queries.list_jobs(system.db, TENANT).items) == kept
    system.kill("gateway", group=True)
    url = system.start_gateway(port)
    answer = httpx.post(f"{url}/v1/jobs", json=body, headers=HEADERS, timeout=TIMEOUT_S)
    assert answer.status_code == 202
    assert answer.headers.get("Idempotency-Replayed") == ("true" if kept else None)
    assert system.wait(answer.json()["id"]).state == "succeeded"
    assert len(queries.list_jobs(system.db, TENANT).items) == 1
    assert (system.home / "effects").read_text() == "x\n"


def test_a_job_posted_without_redis_runs_when_it_is_back(
    make_system: Callable[..., System], sleep_tree: Path
) -> None:
    system = make_system(sleep_tree)
    system.start_worker("sleep")
    system.start_reconciler()
    url = system.start_gateway()
    system.redis.kill()
    answer = httpx.post(
        f"{url}/v1/jobs", json={"stage": "sleep"}, headers=HEADERS, timeout=TIMEOUT_S
    )
    assert answer.status_code == 202
    ready = httpx.get(f"{url}/readyz", timeout=TIMEOUT_S)
    assert ready.status_code == 200
    system.redis.start()
    assert system.wait(answer.json()["id"]).state == "succeeded"
