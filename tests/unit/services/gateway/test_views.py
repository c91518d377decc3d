"""services.gateway.views: the models that document the API and the JSON that it sends are one."""

from __future__ import annotations

import pytest

from services.gateway import views
from shared.jobs.records import Artifact, Audit, Event, Input, Job, PlannedJob, Worker
from shared.jobs.states import State

JOB = Job(
    id="job_1", tenant="t", stage="attack", method="invert", params={"a": 1}, seed=3,
    inputs=(Input("A", parent="job_0", parent_role="B"), Input("C", sha256="f" * 64)), produces=("R",),
    state=State.RUNNING, priority=1, plan_key="p", content_key=None, data={"mine.npz": "d" * 64}, code="c",
    fresh=False, fence=2, attempt=2,
    lost_count=1, lease_until=5.0, worker="w", stop="cancel", checkpoint="k", progress={"done": 1}, failure=None,
    message=None, reused_from=None, time_limit=9.5, created_at=0.0, queued_at=1.0005, started_at=None,
    finished_at=None, version=7, artifacts=(Artifact("R", "e" * 64, 5, "x/y"),), audits=("aud_1",),
)  # fmt: skip


def test_a_job():
    body = views.job_json(JOB)
    assert list(body) == [name for name in views.JobView.model_fields if name != "created"]
    assert views.JobView.model_validate(body).model_dump(exclude={"created"}) == body
    assert body["inputs"] == {"A": {"job": "job_0", "role": "B"}, "C": {"sha256": "f" * 64}}
    assert body["stopping"] is True
    assert body["created_at"] == "1970-01-01T00:00:00.000Z"
    assert body["artifacts"]["R"]["url"] == f"/v1/artifacts/{'e' * 64}"
    # what lets one pose as the holder, and whose it is, stays inside
    assert not {"fence", "lease_until", "tenant", "checkpoint"} & body.keys()


def test_the_others():
    audit = Audit("aud_1", "t", "n", {"x": 1}, 0.0, None, {"queued": 1})
    assert views.AuditView.model_validate(views.audit_json(audit, {"train": {"queued": 1}})).stages
    assert views.EventView.model_validate(views.event_json(Event("job_1", 1, 0.0, "state", {})))
    planned = PlannedJob("p", "train", None, {}, 0, (), (), (), "c")
    assert views.PlannedView.model_validate(views.planned_json(planned, None)).reused is None
    assert views.PlannedView.model_validate(views.planned_json(planned, ("job_1", "queued"))).reused == "job_1"
    worker = Worker("w", "h", 1, ("train",), "cpu", 1, {}, "c", 0.0, 1.0, False)
    assert views.WorkerView.model_validate(views.worker_json(worker)).seen_at == "1970-01-01T00:00:01.000Z"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, None),
        (0, "1970-01-01T00:00:00.000Z"),
        (1732431060.5, "2024-11-24T06:51:00.500Z"),
        (4102444800.0, "2100-01-01T00:00:00.000Z"),
    ],
)
def test_times(seconds, text):
    assert views.rfc3339(seconds) == text
