"""POST and GET /v1/jobs, and what can be asked of a job."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.gateway.deps import EXTENSION_KEY
from shared.catalog import Catalog
from shared.jobs import queries, worker_registry
from tests.support.gateway import TENANT, GatewayInProcess, make_catalog


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayInProcess]:
    made = GatewayInProcess(tmp_path)
    yield made
    made.close()


def stored(gateway: GatewayInProcess) -> int:
    return len(queries.list_jobs(gateway.db, TENANT, limit=200).items)


def test_a_job_is_accepted_stored_and_rung_for(gateway):
    answer = gateway.http.post(
        "/v1/jobs", json={"stage": "sleep", "params": {"seconds": 2}, "seed": 7}
    )
    job = answer.get_json()
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert answer.headers["Retry-After"].isdecimal()
    assert job["state"] == "queued"
    assert job["created"] is True
    assert job["params"] == {"seconds": 2.0, "note": ""}
    assert job["seed"] == 7
    assert job["created_at"].endswith("Z")
    assert gateway.http.get(answer.headers["Location"]).get_json()["id"] == job["id"]
    gateway.wakeup_sender.close()
    assert gateway.wakeup_queue.notified_stages == ["sleep"]


def test_an_equal_job_is_shared_unless_uncached(gateway):
    first = gateway.post()
    again = gateway.post()
    assert (again["id"], again["created"]) == (first["id"], False)
    uncached = gateway.post({"stage": "sleep", "no_cache": True})
    assert uncached["id"] != first["id"]
    assert uncached["created"] is True


def test_one_number_written_in_two_ways_is_one_job(gateway):
    for params in ({"seconds": 1}, {"seconds": 1.0}, {"seconds": 1e0}):
        job = gateway.post({"stage": "sleep", "params": params})
        assert (job["params"]["seconds"], stored(gateway)) == (1.0, 1)
    bodies = [{"dataset": "digits", "model": "mlp", "epochs": epochs} for epochs in (2, 2.0)]
    assert len({gateway.post({"stage": "pretrain", "params": body})["id"] for body in bodies}) == 1


def test_a_child_of_a_job_made_anew_is_not_the_child_of_its_equal(gateway):
    first, uncached = gateway.post(), gateway.post({"stage": "sleep", "no_cache": True})
    children = [
        gateway.post({"stage": "sleep", "inputs": {"BASE": job["id"]}}) for job in (first, uncached)
    ]
    assert children[0]["id"] != children[1]["id"]


def test_inputs_come_from_a_job_a_role_of_a_job_or_an_artifact(gateway):
    worker = gateway.make_worker()
    parent = gateway.post()
    waiting = gateway.post({"stage": "sleep", "inputs": {"BASE": parent["id"]}})
    assert waiting["state"] == "waiting"
    assert waiting["inputs"] == {"BASE": {"job": parent["id"], "role": "BASE"}}
    sha256 = worker.finish(worker.claim())
    assert gateway.http.get(f"/v1/jobs/{waiting['id']}").get_json()["state"] == "queued"
    by_digest = gateway.post({"stage": "sleep", "inputs": {"BASE": sha256}})
    assert by_digest["inputs"] == {"BASE": {"sha256": sha256}}
    by_role = gateway.post(
        {
            "stage": "train",
            "inputs": {"BASE": {"job": parent["id"], "role": "BASE"}},
            "params": {"dataset": "digits"},
        }
    )
    assert by_role["inputs"] == {"BASE": {"job": parent["id"], "role": "BASE"}}


NO_JOB = "job_" + "0" * 20

WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"stage": "slep"}, "stage", "did you mean 'sleep'"),
    ({"stage": "sleep", "method": "deep"}, "method", "has no methods"),
    ({"stage": "unlearn"}, "method", "needs a method"),
    ({"stage": "unlearn", "method": "forgetting"}, "method", "Known: ascent, retrain"),
    ({"stage": "sleep", "params": {"seconds": -1}}, "params.seconds", "minimum"),
    ({"stage": "sleep", "params": {"seconds": "1"}}, "params.seconds", "not of type"),
    ({"stage": "sleep", "params": {"secons": 1}}, "params.secons", "did you mean 'seconds'"),
    (
        {"stage": "train", "params": {"dataset": "digit"}},
        "params.dataset.name",
        "did you mean 'digits'",
    ),
    ({"stage": "train", "params": {"dataset": "digits"}}, "inputs.BASE", "needs BASE"),
    ({"stage": "attack", "method": "invert"}, "inputs.ORIGINAL", "attack invert needs ORIGINAL"),
    (
        {"stage": "sleep", "inputs": {"ORIGINAL": "0" * 64}},
        "inputs.ORIGINAL",
        "takes no input ORIGINAL",
    ),
    ({"stage": "sleep", "inputs": {"BASE": "0" * 64}}, "inputs.BASE", "there is no artifact"),
    ({"stage": "sleep", "inputs": {"BASE": NO_JOB}}, "inputs.BASE", "there is no job"),
    ({"stage": "sleep", "inputs": {"BASE": "latest"}}, "inputs.BASE", "give a job's id"),
    (
        {"stage": "sleep", "inputs": {"BASE": {"job": NO_JOB, "sha256": "0" * 64}}},
        "inputs.BASE",
        "give either a job",
    ),
    ({"stage": "sleep", "inputs": {"BASE": {}}}, "inputs.BASE", "give either a job"),
    ({"stage": "sleep", "inputs": {"B A S E": NO_JOB}}, "inputs.B A S E.[key]", "pattern"),
    ({"stage": "sleep", "seed": -1}, "seed", "greater than or equal to 0"),
    ({"stage": "sleep", "seed": 2**31}, "seed", "less than or equal"),
    ({"stage": "sleep", "seed": True}, "seed", "valid integer"),
    ({"stage": "sleep", "priority": 101}, "priority", "less than or equal to 100"),
    ({"stage": "sleep", "time_limit": 0}, "time_limit", "greater than 0"),
    ({"stage": "sleep", "colour": "red"}, "colour", "Extra inputs"),
    ({}, "stage", "required"),
]


@pytest.mark.parametrize(
    ("body", "field", "words"), WRONG, ids=[f"{i}-{w[1]}" for i, w in enumerate(WRONG)]
)
def test_what_is_wrong_is_named_by_its_field_and_nothing_is_stored(gateway, body, field, words):
    answer = gateway.http.post("/v1/jobs", json=body)
    problem = answer.get_json()
    assert answer.status_code == 422, problem
    assert answer.content_type == "application/problem+json"
    assert problem["field"] == field
    assert words in problem["errors"][0]["message"]
    assert stored(gateway) == 0


def test_a_parent_that_does_not_make_the_role_says_what_it_makes(gateway):
    parent = gateway.post({"stage": "pretrain", "params": {"dataset": "digits", "model": "mlp"}})
    body = {"stage": "unlearn", "method": "ascent", "inputs": {"ORIGINAL": parent["id"]}}
    problem = gateway.post(body, 422)
    assert problem["field"] == "inputs.ORIGINAL"
    assert "does not produce ORIGINAL; it produces BASE" in problem["detail"]


def test_a_failed_parent_is_a_conflict(gateway):
    parent, worker = gateway.post(), gateway.make_worker()
    worker.fail(worker.claim())
    problem = gateway.post({"stage": "sleep", "inputs": {"BASE": parent["id"]}}, 409)
    assert "retry it first" in problem["detail"]


def test_before_any_worker_has_started_a_job_is_to_be_sent_again(tmp_path):
    gateway = GatewayInProcess(tmp_path, publish=False)
    assert "no worker has published its catalog yet" in gateway.post(None, 503)["detail"]
    worker_registry.publish_catalog(gateway.db, make_catalog())
    assert gateway.post()["state"] == "queued"
    gateway.close()


def test_a_new_catalog_counts_at_once(gateway):
    first = gateway.post()
    worker_registry.publish_catalog(gateway.db, make_catalog(code="2"))
    assert gateway.post()["id"] != first["id"]
    worker_registry.publish_catalog(gateway.db, make_catalog())
    assert gateway.post()["id"] == first["id"]


class TestIdempotency:
    def test_the_same_key_and_body_get_the_same_answer(self, gateway):
        body = {"stage": "sleep", "no_cache": True}
        first = gateway.http.post("/v1/jobs", json=body, headers={"Idempotency-Key": "k"})
        again = gateway.http.post("/v1/jobs", json=body, headers={"Idempotency-Key": "k"})
        assert first.get_json() == again.get_json()
        assert "Idempotency-Replayed" not in first.headers
        assert again.headers["Idempotency-Replayed"] == "true"
        assert again.status_code == 202
        assert stored(gateway) == 1

    def test_another_body_is_refused(self, gateway):
        gateway.post(None, **{"Idempotency-Key": "k"})
        problem = gateway.post({"stage": "sleep", "seed": 1}, 422, **{"Idempotency-Key": "k"})
        assert problem["field"] == "Idempotency-Key"
        assert stored(gateway) == 1

    def test_what_was_accepted_once_is_answered_again_whatever_has_changed(self, gateway):
        worker, parent = gateway.make_worker(), gateway.post()
        body = {"stage": "sleep", "inputs": {"BASE": parent["id"]}}
        child = gateway.post(body, **{"Idempotency-Key": "k"})
        worker.fail(worker.claim())
        worker_registry.publish_catalog(gateway.db, make_catalog(code="2"))
        again = gateway.post(body, **{"Idempotency-Key": "k"})
        assert (again["id"], again["state"]) == (child["id"], "failed")

    def test_a_refused_request_leaves_its_key_free(self, gateway):
        gateway.post({"stage": "slep"}, 422, **{"Idempotency-Key": "k"})
        assert gateway.post(None, **{"Idempotency-Key": "k"})["created"] is True

    @pytest.mark.parametrize("key", ["", " ", "a b", "k" * 256, "\xe9"])
    def test_a_key_is_visible_ascii(self, gateway, key):
        assert gateway.post(None, 422, **{"Idempotency-Key": key})["field"] == "Idempotency-Key"


class TestList:
    def test_pages_hold_every_job_once_newest_first(self, gateway):
        ids = [gateway.post({"stage": "sleep", "seed": n})["id"] for n in range(7)]
        seen: list[str] = []
        page = ""
        for _ in itertools.count():
            found = gateway.http.get(f"/v1/jobs?limit=3{page}").get_json()
            seen += [j["id"] for j in found["items"]]
            if found["next"] is None:
                break
            page = f"&page={found['next']}"
            # jobs that come in do not move the pages
            gateway.post({"stage": "sleep", "seed": 100 + len(seen)})
        assert seen == ids[::-1]

    def test_filters(self, gateway):
        worker = gateway.make_worker()
        done = gateway.post()
        worker.finish(worker.claim())
        other = gateway.post({"stage": "pretrain", "params": {"dataset": "digits", "model": "mlp"}})
        for query, ids in (
            ("stage=sleep", [done["id"]]),
            ("state=queued", [other["id"]]),
            ("state=succeeded&stage=sleep", [done["id"]]),
            ("method=ascent", []),
            ("stage=nothing", []),
        ):
            assert [
                j["id"] for j in gateway.http.get(f"/v1/jobs?{query}").get_json()["items"]
            ] == ids

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ("limit=0", "limit"), ("limit=201", "limit"), ("limit=x", "limit"), ("state=asleep", "state"),
            ("page=x", "page"), ("page=WzEsMl0", "page"), ("page=%00", "page"), ("stage=%00", "stage"),
            ("colour=red", "colour"),
        ],
    )  # fmt: skip
    def test_a_wrong_query_is_refused(self, gateway, query, field):
        answer = gateway.http.get(f"/v1/jobs?{query}")
        assert (answer.status_code, answer.get_json()["field"]) == (422, field)

    def test_of_an_unknown_audit(self, gateway):
        assert gateway.http.get("/v1/jobs?audit=aud_" + "0" * 20).status_code == 404


class TestOne:
    def test_its_etag_changes_with_it(self, gateway):
        job = gateway.post()
        first = gateway.http.get(f"/v1/jobs/{job['id']}")
        etag = first.headers["ETag"]
        same = gateway.http.get(f"/v1/jobs/{job['id']}", headers={"If-None-Match": etag})
        assert (same.status_code, same.get_data()) == (304, b"")
        worker = gateway.make_worker()
        worker.report_progress(worker.claim(), 1, 2)
        changed = gateway.http.get(f"/v1/jobs/{job['id']}", headers={"If-None-Match": etag})
        assert changed.status_code == 200
        assert changed.get_json()["progress"] == {"done": 1, "total": 2}

    def test_success_shows_its_artifacts(self, gateway):
        job, worker = gateway.post(), gateway.make_worker()
        sha256 = worker.finish(worker.claim(), b'{"a":1}')
        found = gateway.http.get(f"/v1/jobs/{job['id']}").get_json()
        assert found["state"] == "succeeded"
        assert found["artifacts"] == {
            "BASE": {
                "sha256": sha256,
                "size": 7,
                "media_type": "application/json",
                "url": f"/v1/artifacts/{sha256}",
                "expired_at": None,
            }
        }

    def test_failure_says_why(self, gateway):
        job, worker = gateway.post(), gateway.make_worker()
        worker.fail(worker.claim(), "the loss is not a number")
        found = gateway.http.get(f"/v1/jobs/{job['id']}").get_json()
        assert (found["failure"], found["message"]) == ("error", "the loss is not a number")

    @pytest.mark.parametrize(
        "job_id", ["job_" + "0" * 20, "x", "%00", "job_%F0%9F%92%A9", "aud_" + "0" * 20, "%ff%fe"]
    )
    @pytest.mark.parametrize("action", ["", "/events", "/cancel", "/retry", "/pause", "/resume"])
    def test_an_unknown_one_is_404(self, gateway, job_id, action):
        do = gateway.http.get if action in ("", "/events") else gateway.http.post
        answer = do(f"/v1/jobs/{job_id}{action}")
        assert (answer.status_code, answer.content_type) == (404, "application/problem+json")


class TestActions:
    def test_cancel_is_at_once_for_a_queued_job_and_repeatable(self, gateway):
        job = gateway.post()
        for _ in range(2):
            answer = gateway.http.post(f"/v1/jobs/{job['id']}/cancel")
            assert (answer.status_code, answer.get_json()["state"]) == (202, "cancelled")

    def test_cancel_tells_a_running_job_to_stop(self, gateway):
        job, worker = gateway.post(), gateway.make_worker()
        worker.claim()
        answer = gateway.http.post(f"/v1/jobs/{job['id']}/cancel").get_json()
        assert (answer["state"], answer["stopping"]) == ("running", True)

    def test_retry_runs_a_failed_job_again_and_rings(self, gateway):
        job, worker = gateway.post(), gateway.make_worker()
        assert gateway.http.post(f"/v1/jobs/{job['id']}/retry").status_code == 409
        worker.fail(worker.claim())
        answer = gateway.http.post(f"/v1/jobs/{job['id']}/retry")
        assert (answer.status_code, answer.get_json()["state"]) == (202, "queued")
        gateway.wakeup_sender.close()
        assert gateway.wakeup_queue.notified_stages == ["sleep", "sleep"]

    def test_pause_and_resume(self, gateway):
        job = gateway.post()
        for ask, state in (("pause", "paused"), ("resume", "queued")):
            for _ in range(2):  # who did not hear the answer asks again
                answer = gateway.http.post(f"/v1/jobs/{job['id']}/{ask}")
                assert (answer.status_code, answer.get_json()["state"]) == (202, state)
        gateway.http.post(f"/v1/jobs/{job['id']}/cancel")
        assert [
            gateway.http.post(f"/v1/jobs/{job['id']}/{ask}").status_code
            for ask in ("pause", "resume")
        ] == [409] * 2


DATA = {"dataset": "digits", "model": "mlp"}


class TestFrom:
    """Inputs that are not given come from a job, or from what it was made of."""

    def trained(self, gateway, seed=4):
        base = gateway.post({"stage": "pretrain", "params": DATA})
        data = {"dataset": "digits"}
        return base, gateway.post(
            {"stage": "train", "params": data, "seed": seed, "from": base["id"]}
        )

    def test_the_nearest_that_makes_a_role_supplies_it_and_its_seed_goes_on(self, gateway):
        base, trained = self.trained(gateway)
        assert trained["inputs"] == {"BASE": {"job": base["id"], "role": "BASE"}}
        body = {"stage": "unlearn", "method": "retrain", "from": trained["id"]}
        unlearned = gateway.post(body)
        assert unlearned["inputs"] == {
            "BASE": {"job": base["id"], "role": "BASE"},
            "ORIGINAL": {"job": trained["id"], "role": "ORIGINAL"},
        }
        assert unlearned["seed"] == 4
        assert gateway.post({**body, "seed": 0})["seed"] == 0

    def test_what_is_given_goes_before_and_gives_an_equal_job(self, gateway):
        base, trained = self.trained(gateway)
        other = gateway.post({"stage": "pretrain", "params": DATA, "seed": 8})
        body = {
            "stage": "unlearn",
            "method": "retrain",
            "from": trained["id"],
            "inputs": {"BASE": other["id"]},
        }
        assert gateway.post(body)["inputs"]["BASE"]["job"] == other["id"]
        written_out = {"BASE": base["id"], "ORIGINAL": trained["id"]}
        by_hand = gateway.post(
            {"stage": "unlearn", "method": "retrain", "seed": 4, "inputs": written_out}
        )
        assert gateway.post({**body, "inputs": {}})["id"] == by_hand["id"]

    def test_of_two_that_are_as_near_none_is_taken(self, gateway):
        trained = []
        for seed in (1, 2):
            base = gateway.post({"stage": "pretrain", "params": DATA, "seed": seed})
            trained.append(
                gateway.post(
                    {"stage": "train", "params": {"dataset": "digits"}, "from": base["id"]}
                )["id"]
            )
        unlearned = gateway.post({"stage": "unlearn", "method": "retrain", "from": trained[1]})[
            "id"
        ]
        mixed = {"ORIGINAL": trained[0], "UNLEARNED": unlearned}
        attacked = gateway.post({"stage": "attack", "method": "invert", "inputs": mixed})["id"]
        answer = gateway.http.post(
            "/v1/jobs", json={"stage": "unlearn", "method": "retrain", "from": attacked}
        )
        assert (answer.status_code, answer.get_json()["field"]) == (422, "inputs.BASE")
        assert "BASE could come from job_" in answer.get_json()["detail"]

    def test_parameters_are_bounded_before_they_are_looked_at(self, gateway):
        base, _ = self.trained(gateway)
        body = {"stage": "train", "params": {"nonsense": "x" * 300_000}, "from": base["id"]}
        answer = gateway.http.post("/v1/jobs", json=body)
        assert (answer.status_code, answer.get_json()["field"]) == (422, "params")
        assert (
            "300,015 bytes of parameters are above the limit of 262,144"
            in answer.get_json()["detail"]
        )

    def test_long_ones_are_looked_at_in_their_turn(self, gateway):
        base, _ = self.trained(gateway)
        body = {"stage": "sleep", "params": {"note": "x" * 20_000}, "from": base["id"]}
        limiter = gateway.app.extensions[EXTENSION_KEY].planning_limiter
        with pytest.MonkeyPatch.context() as patch, limiter.acquire():
            patch.setattr(limiter, "_max_wait_s", 0.01)
            patch.setattr(Catalog, "describe", None)  # is not called
            assert gateway.http.post("/v1/jobs", json=body).status_code == 503
        assert gateway.post(body)["inputs"] == {"BASE": {"job": base["id"], "role": "BASE"}}

    @pytest.mark.parametrize(
        ("source", "field"),
        [("job_" + "0" * 20, "from"), ("job_1", "from"), (7, "from"), ("aud_" + "0" * 20, "from")],
    )
    def test_a_source_that_is_none_is_refused(self, gateway, source, field):
        answer = gateway.http.post("/v1/jobs", json={"stage": "train", "from": source})
        assert answer.status_code == 422
        assert field in answer.get_data(as_text=True)


def test_deletions_that_the_training_set_cannot_hold_are_refused_when_posted(tmp_path):
    from tests.golden.planned_jobs import real_catalog  # torch comes with the plugins

    gateway = GatewayInProcess(tmp_path, publish=False)
    worker_registry.publish_catalog(gateway.db, real_catalog())
    data = {"dataset": "mnist_5k"}
    base = gateway.post({"stage": "pretrain", "params": {**data, "model": "mlp"}})
    train = {"stage": "train", "params": {**data, "size": 32}, "inputs": {"BASE": base["id"]}}
    trained = gateway.post(train)["id"]

    def unlearn(**more: Any) -> Any:
        body = {"stage": "unlearn", "method": "gradient_ascent", "from": trained, **more}
        return gateway.http.post("/v1/jobs", json=body)

    before = stored(gateway)
    # named, or found from the job that made them
    for inputs in ({"ORIGINAL": trained, "TRAINING_SET": trained}, {}):
        answer = unlearn(inputs=inputs, params={"deletions": 400, "size": 32})
        assert (answer.status_code, answer.get_json()["field"]) == (422, "params.deletions")
        assert "need a training set of at least 12800, not 32" in answer.get_json()["detail"]
    for params, words in (
        ({"indices": [3, 7]}, "[[3], [7]]"),
        ({"class": 3}, "forget: {forget: class, deletions: 1}"),
    ):
        answer = unlearn(params=params)
        assert answer.status_code == 422
        assert words in answer.get_json()["detail"]
    assert stored(gateway) == before
    assert unlearn(params={"deletions": 4, "size": 8}).status_code == 202
    gateway.close()
