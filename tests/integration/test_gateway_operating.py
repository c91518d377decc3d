"""What an operator and a user ask over HTTP of workers, stages, and many jobs or audits at once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import delete

from shared.jobs import monitoring, queries, stage_pauses
from shared.jobs.database import Database
from shared.jobs.monitoring import StageProgress
from shared.jobs.tables import workers
from tests.support.gateway import AUDIT, AUDIT_JOB_COUNT, TENANT, TOKEN, GatewayInProcess

NO_AUDIT = "aud_" + "0" * 20


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayInProcess]:
    made = GatewayInProcess(tmp_path_factory.mktemp("gateway"))
    yield made
    made.close()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[GatewayInProcess]:
    made = GatewayInProcess(tmp_path)
    yield made
    made.close()


DEEP = "[" * 1000 + "]" * 1000


def ask(gateway: GatewayInProcess, method: str, path: str, status: int, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).replace('"DEEP"', DEEP)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answer = gateway.app.test_client().open(
        path, method=method, data=data, content_type="application/json", headers=headers
    )
    assert answer.status_code == status, answer.get_data(as_text=True)
    return answer.get_json()


def post_audit(gateway: GatewayInProcess, body: Any = AUDIT) -> Any:
    return ask(gateway, "POST", "/v1/audits", 202, body)


def test_a_worker_is_drained_and_undrained(fresh: GatewayInProcess) -> None:
    worker = fresh.make_worker()
    job = fresh.post()["id"]
    claim = worker.claim()
    drained = ask(fresh, "POST", "/v1/workers/hand/drain", 200)
    assert (drained["drain"], drained["job"]) == (True, job)
    assert drained["drained_at"].endswith("Z")
    worker.finish(claim)
    fresh.post({"stage": "sleep", "seed": 1})
    assert worker.try_claim() is None
    undrained = ask(fresh, "POST", "/v1/workers/hand/undrain", 200)
    assert undrained == {
        "id": "hand",
        "live": True,
        "drain": False,
        "drained_at": None,
        "job": None,
    }
    assert worker.try_claim() is not None


def test_a_drained_worker_that_is_not_there_is_drained_all_the_same(
    fresh: GatewayInProcess,
) -> None:
    fresh.make_worker()
    before = ask(fresh, "POST", "/v1/workers/hand/drain", 200)
    with fresh.db.write() as connection:  # as an hour after it was last seen
        connection.execute(delete(workers))
    gone = ask(fresh, "POST", "/v1/workers/hand/drain", 200)
    assert (gone["live"], gone["drain"], gone["drained_at"]) == (False, True, before["drained_at"])
    assert ask(fresh, "POST", "/v1/workers/hand/undrain", 200)["drained_at"] is None


@pytest.mark.parametrize("name", ["nobody", "a\0b", "x" * 300, "\ud800", "hand/"])
def test_an_unknown_worker_and_an_unknown_stage_are_404(
    gateway: GatewayInProcess, name: str
) -> None:
    segment = quote(name, safe="", errors="surrogatepass")
    for path in ("workers/{}/drain", "workers/{}/undrain", "queues/{}/pause", "queues/{}/resume"):
        ask(gateway, "POST", f"/v1/{path.format(segment)}", 404)


def test_a_paused_stage_is_shown_and_not_claimed(fresh: GatewayInProcess) -> None:
    worker = fresh.make_worker()
    fresh.post()
    paused = ask(fresh, "POST", "/v1/queues/sleep/pause", 200)
    (shown,) = (q for q in ask(fresh, "GET", "/v1/queues", 200)["items"] if q["stage"] == "sleep")
    assert {**shown, "oldest_age_s": 0.0} == {**paused, "oldest_age_s": 0.0}
    assert paused["paused_at"].endswith("Z")
    assert worker.try_claim() is None
    assert ask(fresh, "POST", "/v1/queues/sleep/resume", 200)["paused_at"] is None
    assert worker.try_claim() is not None


def test_a_pause_reads_the_progress_of_its_stage_only(
    fresh: GatewayInProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    read_progress = monitoring.read_progress

    def read(db: Database, stages: Sequence[str]) -> dict[str, StageProgress]:
        asked.append(list(stages))
        return read_progress(db, stages)

    monkeypatch.setattr(monitoring, "read_progress", read)
    ask(fresh, "POST", "/v1/queues/sleep/pause", 200)
    assert asked == [["sleep"]]
    stage_pauses.pause_stage(fresh.db, "gone")  # known by this alone
    resumed = ask(fresh, "POST", "/v1/queues/gone/resume", 200)
    assert (resumed["stage"], resumed["counts"], resumed["paused_at"]) == ("gone", {}, None)
    ask(fresh, "POST", "/v1/queues/gone/pause", 404)


def test_priority_of_a_job_and_of_an_audit(fresh: GatewayInProcess) -> None:
    job = fresh.post()["id"]
    assert ask(fresh, "POST", f"/v1/jobs/{job}/priority", 202, {"priority": 7})["priority"] == 7
    audit = post_audit(fresh)["id"]
    changed = ask(fresh, "POST", f"/v1/audits/{audit}/priority", 202, {"priority": -3})
    assert (changed["id"], changed["changed"]) == (audit, AUDIT_JOB_COUNT)
    for body in ({}, {"priority": 101}, {"priority": "1"}, {"priority": True}, {"priority": 1.5}):
        for item in (f"jobs/{job}", f"audits/{audit}"):
            ask(fresh, "POST", f"/v1/{item}/priority", 422, body)
    ask(fresh, "POST", f"/v1/audits/{NO_AUDIT}/priority", 404, {"priority": 1})


def test_jobs_are_cancelled_by_a_filter_after_a_dry_run(fresh: GatewayInProcess) -> None:
    worker = fresh.make_worker()
    for seed in range(3):
        fresh.post({"stage": "sleep", "seed": seed})
    worker.claim()
    pretrain = fresh.post({"stage": "pretrain", "params": {"dataset": "digits", "model": "mlp"}})
    body: dict[str, Any] = {"stage": "sleep"}
    seen = ask(fresh, "POST", "/v1/jobs/cancel?dry_run=true", 200, body)
    assert (seen["cancelled"], seen["stopping"], seen["remaining"]) == (2, 1, 0)
    later = fresh.post({"stage": "sleep", "seed": 9})
    done = ask(
        fresh, "POST", "/v1/jobs/cancel", 200, {**body, "created_before": seen["created_before"]}
    )
    assert done == seen
    states = {j.id: j.state for j in queries.list_jobs(fresh.db, TENANT).items}
    assert (states[later["id"]], states[pretrain["id"]]) == ("queued", "queued")


WRONG_CANCELS: list[tuple[Any, str]] = [
    ({}, "at least one filter"),
    ({"stage": None}, "at least one filter"),
    ({"state": "succeeded"}, "have ended"),
    ({"state": "none"}, "Input should be"),
    ({"stage": "sl\0eep"}, "NUL"),
    ({"stage": "x" * 65}, "pattern"),
    ({"label": "a\u0007"}, "pattern"),
    ({"label": "=x"}, "pattern"),
    ({"created_after": "yesterday"}, "not a valid time"),
    ({"created_after": 1}, "as text"),
    ({"created_after": "2026-01-01T00:00:00"}, "no offset"),
    ({"created_after": "2026-13-01T00:00:00Z"}, "not a valid time"),
    ({"created_before": "9999-12-31T23:59:59-14:00"}, "between the years"),
    ({"created_before": "9999-12-31T23:59:59.999999Z"}, "between the years"),
    ({"created_after": "0001-01-01T00:00:00+14:00"}, "between the years"),
    ({"created_after": "1969-12-31T23:59:59Z"}, "between the years"),
    (
        {"created_after": "2026-01-02T00:00:00Z", "created_before": "2026-01-02T00:00:00+00:00"},
        "must be later than created_after",
    ),
    ({"finished_after": "2026-01-02T00:00:00Z"}, "ended"),
    ({"colour": "red"}, "Extra"),
]


@pytest.mark.parametrize(("body", "words"), WRONG_CANCELS)
def test_a_wrong_filter_cancels_nothing(gateway: GatewayInProcess, body: Any, words: str) -> None:
    job = gateway.post()["id"]
    problem = ask(gateway, "POST", "/v1/jobs/cancel", 422, body)
    assert ask(gateway, "GET", f"/v1/jobs/{job}", 200)["state"] == "queued"
    assert words in problem["detail"] + str(problem["errors"])


def test_an_audit_that_is_not_there_is_404_in_a_filter(gateway: GatewayInProcess) -> None:
    for audit in (NO_AUDIT, "aud_x", "x"):
        ask(gateway, "POST", "/v1/jobs/cancel", 404, {"audit": audit})
        ask(gateway, "GET", f"/v1/jobs?audit={audit}", 404)


@pytest.mark.parametrize(
    "query",
    [
        "created_after=now", "created_after=2026-01-01", "created_after=1e400", "label=", "label=%00",
        "name=%00", "name=", "state=waiting", "limit=0", "finished_after=2026-01-01T00:00:00Z&state=running",
        "created_after=2026-01-02T00:00:00Z&created_before=2026-01-01T00:00:00Z",
    ],
)  # fmt: skip
def test_a_wrong_filter_of_audits_is_refused(gateway: GatewayInProcess, query: str) -> None:
    assert ask(gateway, "GET", f"/v1/audits?{query}", 422)["errors"]


def test_audits_and_jobs_are_found_by_name_label_time_and_state(fresh: GatewayInProcess) -> None:
    first = post_audit(fresh, {**AUDIT, "name": "First 100%", "labels": {"team": "x/y=z"}})
    second = post_audit(fresh, {**AUDIT, "name": "second", "seeds": [5]})
    ask(fresh, "POST", f"/v1/audits/{second['id']}/cancel", 202)

    def find(query: str, kind: str = "audits") -> list[str]:
        return [one["id"] for one in ask(fresh, "GET", f"/v1/{kind}?{query}", 200)["items"]]

    for query in (
        "name=100%25",
        "name=fIRST",
        "label=team",
        f"label={quote('team=x/y=z')}",
        "state=queued",
    ):
        assert find(query) == [first["id"]], query
    assert find("state=cancelled") == find("finished_after=2020-01-01T00:00:00%2B02:00")
    assert find("created_before=2020-01-01T00:00:00Z") == []
    assert len(find("created_after=2020-01-01T00:00:00.123456Z")) == 2
    assert len(find("label=team&limit=200", "jobs")) == AUDIT_JOB_COUNT
    assert find("label=team&state=cancelled", "jobs") == []
    assert find("finished_after=2020-01-01T00:00:00Z", "jobs") != []


def test_labels_and_metadata_change_no_job(fresh: GatewayInProcess) -> None:
    plain = post_audit(fresh)
    noted = post_audit(
        fresh, {**AUDIT, "labels": {"run": "1"}, "metadata": {"ticket": [1, {"a": None}]}}
    )
    assert (noted["created"], noted["counts"]) == ([], plain["counts"])
    assert (noted["labels"], noted["metadata"]) == ({"run": "1"}, {"ticket": [1, {"a": None}]})
    assert "labels" not in noted["spec"]
    path = f"/v1/audits/{noted['id']}"
    patched = ask(
        fresh, "PATCH", path, 200, {"labels": {"run": None, "b": "2"}, "metadata": {"n": 1}}
    )
    assert patched == ask(fresh, "GET", path, 200)
    assert (patched["labels"], patched["metadata"]["n"]) == ({"b": "2"}, 1)
    assert (patched["spec"], patched["counts"]) == (noted["spec"], noted["counts"])


@pytest.mark.parametrize(
    ("field", "value", "status"),
    [
        ("labels", {"a": "\u0007"}, 422),
        ("labels", {"a\n": "b"}, 422),
        ("labels", {"a": "b" * 257}, 422),
        ("labels", {"a": 1}, 422),
        ("labels", {f"k{n}": "" for n in range(65)}, 422),
        ("metadata", [], 422),
        ("metadata", {"a": "x" * (17 << 10)}, 422),
        ("metadata", {"a": "x" * (1 << 20)}, 413),
        ("metadata", {"a": "DEEP"}, 422),
        ("metadata", {"a\0": 1}, 422),
    ],
)
def test_hostile_labels_and_metadata_are_refused(
    gateway: GatewayInProcess, field: str, value: Any, status: int
) -> None:
    audit = post_audit(gateway)["id"]
    for method, path, body in (
        ("POST", "/v1/audits", {**AUDIT, field: value}),
        ("POST", "/v1/audits?dry_run=true", {**AUDIT, field: value}),
        ("PATCH", f"/v1/audits/{audit}", {field: value}),
    ):
        ask(gateway, method, path, status, body)
    assert ask(gateway, "GET", f"/v1/audits/{audit}", 200)[field] == {}
    ask(gateway, "PATCH", f"/v1/audits/{NO_AUDIT}", 404, {"labels": {"a": "b"}})


def test_the_spec_of_an_audit_submits_it_again(fresh: GatewayInProcess) -> None:
    first = post_audit(fresh, {**AUDIT, "labels": {"a": "b"}, "metadata": {"c": 1}, "priority": 3})
    spec = ask(fresh, "GET", f"/v1/audits/{first['id']}/spec", 200)
    assert spec["labels"] == {"a": "b"}
    assert spec["unlearning"] == ["ascent", "retrain"]
    assert "sweep" not in spec
    again = post_audit(fresh, spec)
    assert (again["created"], again["spec"], again["metadata"]) == ([], first["spec"], {"c": 1})
    other = post_audit(fresh, {**spec, "seeds": [9]})
    assert other["created"]
    ask(fresh, "GET", f"/v1/audits/{NO_AUDIT}/spec", 404)


def test_an_audit_is_retried_from_what_failed(fresh: GatewayInProcess) -> None:
    worker = fresh.make_worker()
    audit = post_audit(fresh, {**AUDIT, "seeds": [0]})["id"]
    path = f"/v1/audits/{audit}/retry"
    assert "have not ended yet" in ask(fresh, "POST", path, 409)["detail"]
    for _ in range(2):  # the self-test has a worker of its own
        claim = worker.claim()
        (worker.fail if claim.job.stage == "pretrain" else worker.finish)(claim)
        if claim.job.stage == "pretrain":
            break
    assert ask(fresh, "GET", f"/v1/audits/{audit}", 200)["state"] == "failed"
    retried = ask(fresh, "POST", path, 202)
    assert (retried["state"], retried["skipped"]) == ("queued", 0)
    assert retried["retried"] == sum(retried["counts"].values())
    ask(fresh, "POST", f"/v1/audits/{NO_AUDIT}/retry", 404)
