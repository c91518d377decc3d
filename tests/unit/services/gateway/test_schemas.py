"""services.gateway.schemas: the models that document the API and the JSON that it sends are one."""

from __future__ import annotations

import pytest

from services.gateway import schemas
from shared.jobs.records import Artifact, Audit, Event, Input, Job, PlannedJob, Worker
from shared.jobs.states import State

JOB = Job(
    id="job_1", tenant="t", stage="attack", method="invert", params={"a": 1}, seed=3,
    inputs=(Input("A", parent="job_0", parent_role="B"), Input("C", sha256="f" * 64)), produces=("R",),
    state=State.RUNNING, priority=1, request_key="p", cache_key=None, data_digests={"mine.npz": "d" * 64}, code="c",
    no_cache=False, fence=2, attempt=2,
    lost_count=1, lease_until=5.0, worker="w", stop="cancel", checkpoint="k", progress={"done": 1}, failure=None,
    message=None, reused_from=None, time_limit=9.5, created_at=0.0, queued_at=1.0005, started_at=None,
    finished_at=None, version=7, artifacts=(Artifact("R", "e" * 64, 5, "x/y"),), audits=("aud_1",),
)  # fmt: skip


def test_a_job():
    body = schemas.serialize_job(JOB)
    assert list(body) == [name for name in schemas.JobView.model_fields if name != "created"]
    assert schemas.JobView.model_validate(body).model_dump(exclude={"created"}) == body
    assert body["inputs"] == {"A": {"job": "job_0", "role": "B"}, "C": {"sha256": "f" * 64}}
    assert body["stopping"] is True
    assert body["created_at"] == "1970-01-01T00:00:00.000Z"
    assert body["artifacts"]["R"]["url"] == f"/v1/artifacts/{'e' * 64}"
    # what lets one pose as the holder, and whose it is, stays inside
    assert not {"fence", "lease_until", "tenant", "checkpoint"} & body.keys()


def test_the_others():
    audit = Audit("aud_1", "t", "n", {"x": 1}, 0.0, None, {"queued": 1})
    assert schemas.AuditView.model_validate(
        schemas.serialize_audit(audit, {"train": {"queued": 1}})
    ).stages
    assert schemas.EventView.model_validate(
        schemas.serialize_event(Event("job_1", 1, 0.0, "state", {}))
    )
    planned = PlannedJob("p", "train", None, {}, 0, (), (), (), "c")
    assert (
        schemas.PlannedJobView.model_validate(schemas.serialize_planned_job(planned, None)).reused
        is None
    )
    assert (
        schemas.PlannedJobView.model_validate(
            schemas.serialize_planned_job(planned, ("job_1", "queued"))
        ).reused
        == "job_1"
    )
    worker = Worker("w", "h", 1, ("train",), "cpu", 1, {}, "c", 0.0, 1.0, False)
    assert (
        schemas.WorkerView.model_validate(schemas.serialize_worker(worker)).seen_at
        == "1970-01-01T00:00:01.000Z"
    )


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
    assert schemas.format_rfc3339(seconds) == text
