"""Previews, summaries and verdicts over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event, update

from shared.jobs.previews import MAX_BYTES, SIGNATURE
from shared.jobs.tables import previews
from tests.support.gateway import AUDIT, VERDICT, GatewayInProcess, ManualWorker


@pytest.fixture
def worker(gateway: GatewayInProcess) -> ManualWorker:
    return gateway.make_worker()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayInProcess]:
    gateway = GatewayInProcess(tmp_path)
    yield gateway
    gateway.close()


def test_a_job_shows_what_its_attacker_sees(
    gateway: GatewayInProcess, worker: ManualWorker
) -> None:
    job_id = gateway.post()["id"]
    url = f"/v1/jobs/{job_id}"
    claim = worker.claim()
    assert gateway.http.get(url).get_json()["preview"] is None
    assert gateway.http.get(f"{url}/preview").status_code == 404
    worker.show(claim, 20, 100)
    before = gateway.http.get(url)
    preview = before.get_json()["preview"]
    assert (preview["step"], preview["total"]) == (20, 100)
    assert preview["url"] == f"{url}/preview?step=20"
    picture = gateway.http.get(preview["url"])
    assert picture.content_type == "image/png"
    assert picture.data.startswith(SIGNATURE)
    assert picture.headers["Cache-Control"] == "private, no-cache"
    unchanged = gateway.http.get(preview["url"], headers={"If-None-Match": picture.headers["ETag"]})
    assert (unchanged.status_code, unchanged.data) == (304, b"")
    worker.show(claim, 40, 100)
    again = gateway.http.get(url, headers={"If-None-Match": before.headers["ETag"]})
    assert again.get_json()["preview"]["step"] == 40
    newer = gateway.http.get(preview["url"], headers={"If-None-Match": picture.headers["ETag"]})
    assert newer.status_code == 200
    assert newer.data != picture.data


@pytest.mark.parametrize("body", [b"<script>", SIGNATURE + b"0" * MAX_BYTES])
def test_what_is_no_picture_is_not_handed_out(
    gateway: GatewayInProcess, worker: ManualWorker, body: bytes
) -> None:
    """Whoever wrote it went past the check."""
    job_id = gateway.post()["id"]
    worker.show(worker.claim(), 20, 100)
    with gateway.db.write() as connection:
        connection.execute(update(previews).values(body=body, media_type="text/html"))
    assert gateway.http.get(f"/v1/jobs/{job_id}/preview").status_code == 404


def test_an_audit_has_the_verdict_of_its_report(
    gateway: GatewayInProcess, worker: ManualWorker
) -> None:
    audit = gateway.http.post("/v1/audits", json=AUDIT).get_json()
    assert audit["verdict"] is None
    worker.finish_all()
    assert gateway.http.get(f"/v1/audits/{audit['id']}").get_json()["verdict"] == VERDICT
    (listed,) = gateway.http.get("/v1/audits").get_json()["items"]
    assert listed["verdict"] == VERDICT
    jobs = gateway.http.get(f"/v1/jobs?audit={audit['id']}&stage=report").get_json()["items"]
    assert [job["summary"] for job in jobs] == [VERDICT]


def test_lists_cost_as_many_queries_for_many_as_for_one(
    gateway: GatewayInProcess, worker: ManualWorker
) -> None:
    def count_queries(url: str) -> int:
        statements = list[str]()

        def note(*arguments: object) -> None:
            statements.append(str(arguments[2]))

        event.listen(gateway.db.engine, "before_cursor_execute", note)
        assert gateway.http.get(url).status_code == 200
        event.remove(gateway.db.engine, "before_cursor_execute", note)
        return len(statements)

    urls = ("/v1/audits", "/v1/jobs")
    gateway.http.post("/v1/audits", json=AUDIT)
    one = [count_queries(url) for url in urls]
    for n in range(4):
        gateway.http.post("/v1/audits", json={**AUDIT, "name": f"audit {n}", "seeds": [n]})
    worker.show(worker.claim(), 1, 2)
    assert [count_queries(url) for url in urls] == one
