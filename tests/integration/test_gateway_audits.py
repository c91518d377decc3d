"""POST and GET /v1/audits."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.gateway.deps import EXTENSION_KEY
from services.gateway.planning_limiter import MAX_WAITING
from shared.jobs import queries, worker_registry
from shared.jobs.records import JobCost
from tests.support.gateway import AUDIT, AUDIT_JOB_COUNT, TENANT, GatewayInProcess, make_catalog

LONG_JOB = {"stage": "sleep", "params": {"note": "x" * 20_000}}


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayInProcess]:
    made = GatewayInProcess(tmp_path)
    yield made
    made.close()


def test_an_audit_is_planned_stored_and_run(gateway):
    answer = gateway.http.post("/v1/audits", json=AUDIT)
    audit = answer.get_json()
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/v1/audits/{audit['id']}"
    assert audit["state"] == "queued"
    assert audit["counts"] == {"queued": 1, "waiting": AUDIT_JOB_COUNT - 1}
    assert audit["stages"]["train"] == {"waiting": 2}
    assert len(audit["created"]) == AUDIT_JOB_COUNT
    assert gateway.make_worker().finish_all() == AUDIT_JOB_COUNT
    done = gateway.http.get(answer.headers["Location"]).get_json()
    assert (done["state"], done["counts"]) == ("succeeded", {"succeeded": AUDIT_JOB_COUNT})
    listed = gateway.http.get(f"/v1/jobs?audit={audit['id']}&limit=200").get_json()["items"]
    assert len(listed) == AUDIT_JOB_COUNT
    assert all(job["audits"] == [audit["id"]] for job in listed)


def test_a_dry_run_says_what_would_be_reused_and_stores_nothing(gateway):
    found = gateway.http.post("/v1/audits?dry_run=true", json=AUDIT)
    assert found.status_code == 200
    assert {k: found.get_json()[k] for k in ("dry_run", "total", "reused", "new")} == {
        "dry_run": True, "total": AUDIT_JOB_COUNT, "reused": 0, "new": AUDIT_JOB_COUNT,
    }  # fmt: skip
    assert queries.list_jobs(gateway.db, TENANT).items == []
    gateway.http.post("/v1/audits", json={**AUDIT, "seeds": [0]})
    gateway.make_worker().finish_all()
    found = gateway.http.post("/v1/audits?dry_run=true", json=AUDIT).get_json()
    assert found["reused"] == 1 + (1 + 2 * 5)  # the report is about other seeds
    assert {job["state"] for job in found["jobs"] if job["reused"]} == {"succeeded"}
    uncached = gateway.http.post(
        "/v1/audits?dry_run=true", json={**AUDIT, "no_cache": True}
    ).get_json()
    assert uncached["reused"] == 0
    assert len(gateway.http.get("/v1/audits").get_json()["items"]) == 1


def test_a_dry_run_quotes_what_equal_jobs_took(gateway):
    worker = gateway.make_worker()
    gateway.http.post("/v1/audits", json={**AUDIT, "seeds": [0]})
    while claim := worker.try_claim():
        seconds = 4.0 if claim.job.stage == "attack" else 1.0
        worker.finish(claim, claim.job.id.encode(), cost=JobCost(seconds, seconds / 2, 10**9))
    audit = {**AUDIT, "seeds": [1]}
    quote = gateway.http.post("/v1/audits?dry_run=true&workers=8", json=audit).get_json()["quote"]
    rows = {(row["stage"], row["method"]): row for row in quote["stages"]}
    attack = rows["attack", "invert"]
    assert {name: attack[name] for name in ("jobs", "new", "seconds", "basis", "workers")} == {
        "jobs": 2, "new": 2, "seconds": 4.0, "basis": "equal", "workers": 1,
    }  # fmt: skip
    assert rows["pretrain", None]["reused"] == 1
    # train; per method unlearn, defend, evaluate, attack, evaluate; report
    assert (quote["unknown"], quote["cpu_seconds"]) == (0, (1 + 2 * (4 + 4) + 1) / 2)
    assert (quote["wall_seconds"], quote["wall_seconds_with_workers"]) == (18, 1 + 2 + 4 + 1 + 1)
    assert quote["memory_bytes"] == 10**9
    assert gateway.http.post("/v1/audits?dry_run=true&workers=0", json=audit).status_code == 422


def test_a_job_is_quoted_before_it_is_posted(gateway):
    worker = gateway.make_worker()
    job = {"stage": "sleep", "params": {"seconds": 2}}
    gateway.http.post("/v1/jobs", json=job)
    worker.finish(worker.claim(), cost=JobCost(2.0, 0.1))
    answer = gateway.http.post("/v1/jobs?dry_run=true", json={**job, "seed": 1})
    (row,) = answer.get_json()["quote"]["stages"]
    assert (answer.status_code, row["seconds"], row["basis"]) == (200, 2.0, "equal")
    assert answer.get_json()["new"] == 1
    assert gateway.http.post("/v1/jobs?dry_run=true", json=job).get_json()["reused"] == 1
    assert len(queries.list_jobs(gateway.db, TENANT).items) == 1


@pytest.mark.parametrize("query", ["", "?dry_run=true"])
def test_in_the_first_minute_an_audit_is_to_be_sent_again_with_the_same_key(tmp_path, query):
    """A client that tries again on 503, as ours does, needs no further logic to wait for workers."""
    gateway = GatewayInProcess(tmp_path, publish=False)

    def post():
        key = {"Idempotency-Key": "first-minute"}
        return gateway.http.post(f"/v1/audits{query}", json=AUDIT, headers=key)

    answer = post()
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    assert "no worker has published its catalog yet" in answer.get_json()["detail"]
    assert gateway.http.get("/v1/audits").get_json()["items"] == []
    worker_registry.publish_catalog(gateway.db, make_catalog())
    assert post().status_code == (200 if query else 202)
    gateway.close()


def test_two_audits_share_their_jobs(gateway):
    first = gateway.http.post("/v1/audits", json=AUDIT).get_json()
    second = gateway.http.post("/v1/audits", json=AUDIT).get_json()
    assert second["id"] != first["id"]
    assert second["created"] == []
    renamed = gateway.http.post("/v1/audits", json={**AUDIT, "name": "again"}).get_json()
    assert len(renamed["created"]) == 1  # the report, which says the audit's name
    audits_of = {
        job["stage"]: job["audits"]
        for job in (gateway.http.get(f"/v1/jobs/{i}").get_json() for i in first["created"])
    }
    assert audits_of.pop("report") == sorted([first["id"], second["id"]])
    everyone = sorted([first["id"], second["id"], renamed["id"]])
    assert audits_of
    assert all(shared == everyone for shared in audits_of.values())


def test_joining_an_audit_changes_the_etag_of_a_job(gateway):
    first = gateway.http.post("/v1/audits", json=AUDIT).get_json()
    path = f"/v1/jobs/{first['created'][0]}"
    etag = gateway.http.get(path).headers["ETag"]
    assert gateway.http.get(path, headers={"If-None-Match": etag}).status_code == 304
    gateway.http.post("/v1/audits", json=AUDIT)
    assert gateway.http.get(path, headers={"If-None-Match": etag}).status_code == 200


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"dataset": "digit"}, "dataset.name"),
        ({"model": {"name": "mlp", "params": {"width": 0}}}, "model.params.width"),
        ({"model": {"name": "mlp", "parms": {}}}, "model.parms"),
        ({"unlearning": []}, "unlearning"),
        ({"unlearning": ["ascent", "forgetting"]}, "unlearning.1.name"),
        ({"unlearning": [{"name": "ascent", "params": {"rate": 2}}]}, "unlearning.0.params.rate"),
        (
            {"attacks": [{"name": "invert", "params": {"iteration": 1}}]},
            "attacks.0.params.iteration",
        ),
        ({"train": {"size": "all"}}, "train.size"),
        ({"forget": {"deletions": 0}}, "forget.deletions"),
        ({"seeds": [0, -1]}, "seeds.1"),
        ({"colour": "red"}, "colour"),
        ({"name": ""}, "name"),
        ({"time_limit": -1}, "time_limit"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(gateway, change, field):
    for query in ("", "?dry_run=true"):
        answer = gateway.http.post(f"/v1/audits{query}", json={**AUDIT, **change})
        problem = answer.get_json()
        assert (answer.status_code, problem["field"]) == (422, field), problem
    assert gateway.http.get("/v1/audits").get_json()["items"] == []


def test_a_key_makes_it_repeatable(gateway):
    answers = [
        gateway.http.post("/v1/audits", json=AUDIT, headers={"Idempotency-Key": "k"})
        for _ in range(2)
    ]
    assert answers[0].get_json() == answers[1].get_json()
    assert answers[1].headers["Idempotency-Replayed"] == "true"
    assert len(gateway.http.get("/v1/audits").get_json()["items"]) == 1
    other = gateway.http.post("/v1/jobs", json={"stage": "sleep"}, headers={"Idempotency-Key": "k"})
    assert other.status_code == 422


def test_pages_etag_and_404(gateway):
    ids = [
        gateway.http.post("/v1/audits", json={**AUDIT, "name": str(n)}).get_json()["id"]
        for n in range(3)
    ]
    first = gateway.http.get("/v1/audits?limit=2").get_json()
    rest = gateway.http.get(f"/v1/audits?limit=2&page={first['next']}").get_json()
    assert [a["id"] for a in first["items"] + rest["items"]] == ids[::-1]
    assert rest["next"] is None
    one = gateway.http.get(f"/v1/audits/{ids[0]}")
    etag = {"If-None-Match": one.headers["ETag"]}
    assert gateway.http.get(f"/v1/audits/{ids[0]}", headers=etag).status_code == 304
    worker = gateway.make_worker()
    worker.finish(worker.claim())
    assert gateway.http.get(f"/v1/audits/{ids[0]}", headers=etag).status_code == 200
    for unknown in ("aud_" + "0" * 20, "job_" + "0" * 20, "%00"):
        assert gateway.http.get(f"/v1/audits/{unknown}").status_code == 404
        assert gateway.http.post(f"/v1/audits/{unknown}/cancel").status_code == 404


def test_cancel_leaves_what_another_audit_needs(gateway):
    first = gateway.http.post("/v1/audits", json={**AUDIT, "seeds": [0]}).get_json()
    second = gateway.http.post("/v1/audits", json={**AUDIT, "seeds": [1]}).get_json()
    for _ in range(2):
        answer = gateway.http.post(f"/v1/audits/{first['id']}/cancel")
        assert answer.status_code == 202
        assert answer.headers["Location"] == f"/v1/audits/{first['id']}"
        assert answer.get_json()["state"] == "cancelled"
    assert gateway.make_worker().finish_all() == 1 + 11 + 1
    assert gateway.http.get(f"/v1/audits/{second['id']}").get_json()["state"] == "succeeded"
    # too late: how it ended stays what it is
    answer = gateway.http.post(f"/v1/audits/{second['id']}/cancel")
    assert (answer.status_code, answer.get_json()["state"]) == (202, "succeeded")


@pytest.mark.slow
def test_while_others_are_planned_audits_come_again_and_everything_else_goes_on(gateway):
    limiter = gateway.app.extensions[EXTENSION_KEY].planning_limiter
    with limiter.acquire():
        waiting = [threading.Thread(target=gateway.http.post, args=("/v1/audits",), kwargs={"json": AUDIT})
                   for _ in range(MAX_WAITING)]  # fmt: skip
        for thread in waiting:
            thread.start()
        for body, path in (
            (AUDIT, "/v1/audits"),
            (AUDIT, "/v1/audits?dry_run=true"),
            (LONG_JOB, "/v1/jobs"),
        ):
            answer = gateway.http.post(path, json=body)
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2"), (
                answer.get_json()
            )
        assert gateway.http.get("/livez").status_code == 200
        assert gateway.post()["created"] is True
        for thread in waiting:
            thread.join()
    assert gateway.http.post("/v1/audits", json=AUDIT).status_code == 202
    assert gateway.post(LONG_JOB)["created"] is True


def test_more_than_an_audit_may_be_is_refused_with_the_figure(gateway):
    rates = [{"name": "ascent", "params": {"rate": n / 32}} for n in range(32)]
    steps = [{"name": "invert", "params": {"iterations": n}} for n in range(1, 33)]
    grid = {**AUDIT, "unlearning": rates, "attacks": steps, "seeds": list(range(100))}
    answer = gateway.http.post("/v1/audits?dry_run=true", json=grid)
    assert (answer.status_code, answer.get_json()["field"]) == (422, "")
    assert (
        "at least 108,800 jobs, but an audit can have at most 10,000" in answer.get_json()["detail"]
    )
    answer = gateway.http.post(
        "/v1/jobs", json={"stage": "sleep", "params": {"note": "x" * 300_000}}
    )
    assert (answer.status_code, answer.get_json()["field"]) == (422, "params")
    assert (
        answer.get_json()["detail"] == "300,011 bytes of parameters are above the limit of 262,144"
    )
