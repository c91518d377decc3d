"""Deletion of audits over HTTP, and readers while the collector is at work: whatever they find is
there as a whole, or gone."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Select, select, update

from services import admin
from services.client import Client, Conflict, Gone
from shared.jobs.collector import Collector
from shared.jobs.retention import DAY_S, Retention
from shared.jobs.tables import artifacts, audits, idempotency, job_artifacts, jobs
from tests.support.cli import make_runner
from tests.support.gateway import (
    AUDIT,
    AUDIT_JOB_COUNT,
    TENANT,
    TOKEN,
    GatewayInProcess,
    GatewayProcess,
    ManualWorker,
    serve_gateway,
)
from tests.support.retention import RETENTION, make_collector
from tests.support.waiting import TIMEOUT_S

AUDITS = 6


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayInProcess]:
    made = GatewayInProcess(tmp_path)
    yield made
    made.close()


def age(gateway: GatewayInProcess | GatewayProcess, days: float) -> None:
    """As if all that has ended had done so earlier."""
    with gateway.db.write() as connection:
        for column in (jobs.c.finished_at, audits.c.created_at):
            older = {column.name: column - days * DAY_S}
            connection.execute(update(column.table).where(column.is_not(None)).values(**older))


def test_an_audit_is_deleted(gateway: GatewayInProcess) -> None:
    key = {"Idempotency-Key": "once"}
    posted = gateway.http.post("/v1/audits", json=AUDIT, headers=key).get_json()
    url = f"/v1/audits/{posted['id']}"
    refused = gateway.http.delete(url)
    assert refused.status_code == 409
    assert posted["created"][0] in refused.get_json()["detail"] or "more" in refused.text
    assert gateway.http.get(url).status_code == 200
    gateway.make_worker().finish_all()
    done = gateway.http.delete(url)
    assert done.status_code == 200
    assert done.get_json() == {
        "audits": 1, "jobs": AUDIT_JOB_COUNT, "artifacts": AUDIT_JOB_COUNT, "finished": True,
        "bytes": done.get_json()["bytes"],
    }  # fmt: skip
    jobs_url = f"/v1/jobs?audit={posted['id']}"
    for gone in (url, f"{url}/manifest", f"/v1/jobs/{posted['created'][0]}", jobs_url):
        assert gateway.http.get(gone).status_code == 404
    assert gateway.http.delete(url).status_code == 404
    # nobody answers with what is gone
    again = gateway.http.post("/v1/audits", json=AUDIT, headers=key)
    assert (again.status_code, len(again.get_json()["created"])) == (202, AUDIT_JOB_COUNT)


def test_a_running_audit_is_deleted_once_it_was_cancelled(gateway: GatewayInProcess) -> None:
    posted = gateway.http.post("/v1/audits", json=AUDIT).get_json()
    done = gateway.http.delete(f"/v1/audits/{posted['id']}?cancel=true")
    assert (done.status_code, done.get_json()["jobs"]) == (200, AUDIT_JOB_COUNT)
    assert gateway.http.get("/v1/jobs").get_json()["items"] == []


def test_what_has_expired_is_said_to_have(gateway: GatewayInProcess) -> None:
    posted = gateway.http.post("/v1/audits", json={**AUDIT, "seeds": [0]}).get_json()
    gateway.make_worker().finish_all()
    age(gateway, 40)
    attacks = gateway.http.get("/v1/jobs?stage=attack").get_json()["items"]
    attack = next(job["id"] for job in attacks if "RECONSTRUCTION" in job["artifacts"])
    attack_url = f"/v1/jobs/{attack}"
    known = {"If-None-Match": gateway.http.get(attack_url).headers["ETag"]}
    assert gateway.http.get(attack_url, headers=known).status_code == 304
    make_collector(gateway.db, gateway.artifacts, RETENTION).collect()
    assert gateway.http.get(attack_url, headers=known).status_code == 200
    items = gateway.http.get(f"/v1/jobs?audit={posted['id']}&limit=200").get_json()["items"]
    statuses = {
        role: gateway.http.get(one["url"]).status_code
        for job in items
        for role, one in job["artifacts"].items()
    }
    expired = {role for job in items for role, one in job["artifacts"].items() if one["expired_at"]}
    assert expired == {"RECONSTRUCTION"}
    assert {role for role, status in statuses.items() if status == 410} == expired
    assert {statuses[role] for role in statuses.keys() - expired} == {200}
    problem = gateway.http.get(
        next(j["artifacts"]["RECONSTRUCTION"]["url"] for j in items if j["stage"] == "attack")
    ).get_json()
    assert "expired on" in problem["detail"]
    # an equal audit shares the jobs, and makes nothing of it anew
    again = gateway.http.post("/v1/audits", json={**AUDIT, "seeds": [0]}).get_json()
    assert (again["created"], again["state"]) == ([], "succeeded")


def test_the_client_and_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    with serve_gateway(tmp_path) as gateway:
        run = make_runner(gateway.url, monkeypatch, capfdbinary)
        worker = ManualWorker(gateway.db, gateway.artifacts)
        with Client(gateway.url, TOKEN) as client:
            first = client.submit_audit(AUDIT)
            with pytest.raises(Conflict, match="have not ended"):
                client.delete_audit(first.id)
            worker.finish_all()
            age(gateway, 40)
            make_collector(gateway.db, gateway.artifacts, RETENTION).collect()
            job = next(client.list_jobs(stage="attack"))
            assert job.artifacts["RECONSTRUCTION"].expired_at
            with pytest.raises(Gone):
                client.fetch(job.id, "RECONSTRUCTION")
        failed = run("fetch", job.id)
        assert failed.returncode == 2
        assert "expired on" in failed.stderr
        deleted = run("delete", first.id, "--yes", "--json")
        assert json.loads(deleted.stdout)[0]["jobs"] == AUDIT_JOB_COUNT
        assert run("delete", first.id).returncode == 2


@pytest.mark.slow
def test_readers_never_meet_a_hole(tmp_path: Path) -> None:
    with serve_gateway(tmp_path) as gateway:
        worker = ManualWorker(gateway.db, gateway.artifacts)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        with httpx.Client(base_url=gateway.url, headers=headers) as http:
            for seed in range(AUDITS):
                http.post("/v1/audits", json={**AUDIT, "seeds": [seed]}).raise_for_status()
        worker.finish_all()
        age(gateway, 400)
        is_over, problems, seen = threading.Event(), list[str](), dict[int, int]()
        readers = [
            threading.Thread(target=read, args=(gateway.url, is_over, problems, seen))
            for _ in range(3)
        ]
        for reader in readers:
            reader.start()
        time.sleep(0.3)
        # as little as possible at a time, first what shows samples and then all of it
        shown = artifacts.join(job_artifacts).select().where(
            job_artifacts.c.role == "RECONSTRUCTION", artifacts.c.expired_at.is_(None)
        )  # fmt: skip
        for kept, left in (
            (Retention(reconstructions_s=30 * DAY_S, events_s=DAY_S), shown),
            (Retention(audits_s=365 * DAY_S), select(jobs.c.id)),
        ):
            collector = Collector(gateway.db, gateway.artifacts, kept, round_s=0.001)
            deadline = time.monotonic() + TIMEOUT_S
            while has_rows(gateway, left):
                assert time.monotonic() < deadline
                collector.collect()
                time.sleep(0.02)
        is_over.set()
        for reader in readers:
            reader.join()
    assert problems == []
    assert seen[200] > 20
    assert seen.keys() <= {200, 404, 410}


def has_rows(gateway: GatewayProcess, query: Select[Any]) -> bool:
    with gateway.db.read() as connection:
        return connection.execute(query.limit(1)).first() is not None


def read(url: str, is_over: threading.Event, problems: list[str], seen: dict[int, int]) -> None:
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}) as http:
        while not is_over.is_set():
            for audit in http.get("/v1/audits").json()["items"]:
                listed = http.get(f"/v1/jobs?audit={audit['id']}&limit=200").json()
                for job in listed.get("items", ()):
                    for role, one in job["artifacts"].items():
                        if one["expired_at"]:
                            continue
                        answer = http.get(one["url"])
                        seen[answer.status_code] = seen.get(answer.status_code, 0) + 1
                        sha256 = hashlib.sha256(answer.content).hexdigest()
                        if answer.status_code == 200 and sha256 != one["sha256"]:
                            problems.append(f"{role} has other bytes")
                        if answer.status_code in (404, 410):
                            again = http.get(f"/v1/jobs/{job['id']}")
                            now = again.json().get("artifacts", {}).get(role)
                            if again.status_code == 200 and not now["expired_at"]:
                                problems.append(f"{role} is listed, and {answer.status_code}")


def test_a_tenant_is_deleted_by_the_operator(
    gateway: GatewayInProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    gateway.http.post("/v1/audits", json=AUDIT, headers={"Idempotency-Key": "once"})
    monkeypatch.setenv("PALIMPSEST_DATABASE_URL", f"sqlite:///{tmp_path}/palimpsest.db")
    monkeypatch.setenv("PALIMPSEST_ARTIFACTS_URL", f"file://{tmp_path}/artifacts")
    assert admin.main(["tenants", "delete", TENANT]) == 2
    assert "confirm with --yes" in capsys.readouterr().err
    assert admin.main(["tenants", "delete", TENANT, "--yes"]) == 0
    assert f"{AUDIT_JOB_COUNT} jobs" in capsys.readouterr().out
    with gateway.db.read() as connection:
        for table in (jobs, audits, artifacts, idempotency):
            assert connection.execute(select(table)).all() == []
    assert admin.main(["tenants", "delete", TENANT, "--yes"]) == 1
    assert "nothing is stored for tenant" in capsys.readouterr().err
