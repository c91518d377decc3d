"""Two tenants who use one served gateway at the same time: nothing that either of them is answered has
a name, an id or a digest of the other."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from shared.jobs.database import Database
from shared.jobs.tables import access_log, artifacts, audits, declarations, jobs, keys
from tests.support.gateway import AUDIT, GatewayProcess, serve_gateway
from tests.support.keys import make_key
from tests.support.waiting import TIMEOUT_S, wait_for

TENANTS = ("annacorp", "bertcorp")
ROUNDS, THREADS = 3, 2
MODEL = {"model": "mlp", "input_shape": [1, 2, 2], "num_classes": 2}


class Recorder:
    """A client that keeps everything that it is answered."""

    def __init__(self, url: str, tenant: str, secret: str) -> None:
        self.tenant, self.answers = tenant, [""]
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {secret}"},
            trust_env=False,
            timeout=TIMEOUT_S,
        )

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        answer = self._http.request(method, path, **options)
        assert answer.status_code < 400, (path, answer.text)
        # its own way of spelling bytes does not matter here
        self.answers.append(f"{answer.headers} {answer.text}")
        return answer

    def use(self, thread: int) -> None:
        """What a user does, `ROUNDS` times."""
        for n in range(ROUNDS):
            tag = f"{self.tenant}-{thread}-{n}"
            job = self.ask("POST", "/v1/jobs", json={
                "stage": "sleep", "seed": thread * 100 + n, "params": {"note": f"{tag}-note"},
            }).json()["id"]  # fmt: skip
            spec = {**AUDIT, "name": f"{tag}-audit", "seeds": [n]}
            audit = self.ask("POST", "/v1/audits", json=spec).json()["id"]
            sha256 = self.ask("POST", "/v1/artifacts", content=f"{tag}-bytes").json()["sha256"]
            self.ask("POST", "/v1/models", json={
                **MODEL, "name": f"{tag}-model", "weights": sha256, "labels": {"of": tag},
            })  # fmt: skip
            stream = self.ask("GET", f"/v1/jobs/{job}/events", headers={
                "Accept": "text/event-stream"})  # fmt: skip
            assert '"succeeded"' in stream.text
            for made in self.ask("GET", f"/v1/jobs/{job}").json()["artifacts"].values():
                assert self.ask("GET", made["url"]).content
            for path in (
                "/v1/jobs?limit=200", "/v1/audits", f"/v1/audits/{audit}", "/v1/artifacts",
                "/v1/models", "/v1/queues", "/v1/workers", "/v1/me", f"/v1/jobs?audit={audit}",
                "/v1/catalog",
            ):  # fmt: skip
                self.ask("GET", path)


def list_needles(db: Database, tenant: str) -> set[str]:
    """Whatever names something of a tenant."""
    columns = (
        jobs.c.id, audits.c.id, audits.c.name, artifacts.c.sha256, declarations.c.name,
        declarations.c.id, keys.c.id, keys.c.digest, access_log.c.id,
    )  # fmt: skip
    with db.read() as connection:
        return {tenant} | {
            str(value)
            for column in columns
            for value in connection.execute(
                select(column).where(column.table.c.tenant == tenant)
            ).scalars()
        }


def work_until(gateway: GatewayProcess, ended: threading.Event) -> None:
    """Finish whatever is queued until everybody has what they wait for."""
    worker = gateway.make_worker()
    while not ended.is_set():
        worker.finish_all()
        ended.wait(0.05)


@pytest.mark.slow
def test_two_tenants_at_once_see_nothing_of_each_other(tmp_path: Path) -> None:
    with serve_gateway(tmp_path) as gateway, ThreadPoolExecutor(8) as pool:
        recorders = [
            Recorder(gateway.url, tenant, make_key(gateway.db, tenant)) for tenant in TENANTS
        ]
        ended = threading.Event()
        working = pool.submit(work_until, gateway, ended)
        try:
            users = [
                pool.submit(recorder.use, thread)
                for thread in range(THREADS)
                for recorder in recorders
            ]
            wait_for(
                lambda: working.done() or all(user.done() for user in users),
                TIMEOUT_S,
                "all have done what they wanted",
            )
        finally:
            ended.set()
        for user in (*users, working):
            user.result()
        needles = {tenant: list_needles(gateway.db, tenant) for tenant in TENANTS}
        for recorder, other in zip(recorders, reversed(TENANTS), strict=True):
            foreign = needles[other] - needles[recorder.tenant]
            assert len(foreign) > 50
            text = "\n".join(recorder.answers)
            assert sum(one in text for one in needles[recorder.tenant]) > 50  # its own is there
            assert [one for one in foreign if one in text] == []
