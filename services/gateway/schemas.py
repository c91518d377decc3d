"""Response schemas of jobs, audits, events and workers, and their serialization. Times are RFC 3339
in UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field

from shared.jobs.records import Audit, Event, Input, Job, JobCost, PlannedJob, Preview, Worker


def format_rfc3339(seconds: float | None) -> str | None:
    """Seconds since 1970 as `2024-11-24T06:51:00.123Z`."""
    if seconds is None:
        return None
    return (
        datetime.fromtimestamp(seconds, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )


class ArtifactView(BaseModel):
    """An artifact of a job."""

    sha256: str
    size: int = Field(description="bytes")
    media_type: str
    url: str
    expired_at: str | None = Field(
        None, description="since when it can no longer be fetched; null: it can be fetched"
    )


class JobCostView(BaseModel):
    """What a job took, if one attempt ran it from beginning to end."""

    run_seconds: float = Field(description="without the wait in the queue")
    cpu_seconds: float = Field(description="processor seconds of all threads")
    memory_bytes: int | None = Field(description="peak of the worker process, without its files")
    device_memory_bytes: int | None = Field(description="peak on the accelerator")


def _serialize_cost(cost: JobCost | None) -> dict[str, Any] | None:
    if cost is None:
        return None
    return {
        "run_seconds": round(cost.run_s, 3),
        "cpu_seconds": round(cost.cpu_s, 3),
        "memory_bytes": cost.memory_bytes,
        "device_memory_bytes": cost.device_memory_bytes,
    }


class PreviewView(BaseModel):
    """What the attacker sees of its reconstruction while the job runs, and for a while after."""

    step: int = Field(description="steps that were done when it was drawn")
    total: int
    made_at: str
    url: str = Field(description="of the picture, a PNG")


def _serialize_preview(job_id: str, preview: Preview | None) -> dict[str, Any] | None:
    if preview is None:
        return None
    return {
        "step": preview.step,
        "total": preview.total,
        "made_at": format_rfc3339(preview.made_at),
        "url": make_preview_url(job_id, preview),
    }


def make_preview_url(job_id: str, preview: Preview) -> str:
    """Of the picture; another one for another step, so that browsers ask for it again."""
    return f"/v1/jobs/{job_id}/preview?step={preview.step}"


class JobView(BaseModel):
    """One unit of work at one stage."""

    id: str
    stage: str
    method: str | None
    state: str = Field(
        description="waiting, queued, paused, running, succeeded, failed or cancelled"
    )
    params: dict[str, Any] = Field(description="all parameters, with defaults filled in")
    seed: int
    inputs: dict[str, dict[str, str]] = Field(
        description="the source of each input by role: {job, role} or {sha256}"
    )
    produces: list[str] = Field(description="roles of its outputs")
    artifacts: dict[str, ArtifactView] = Field(description="its artifacts, by role")
    audits: list[str] = Field(description="audits it belongs to")
    progress: dict[str, Any] = Field(
        description="steps done, steps in total, and the stage's latest measurements"
    )
    failure: str | None = Field(
        description="why it failed: invalid, input_failed, out_of_memory, lost_worker, timeout "
        "or error"
    )
    message: str | None = Field(description="what happened and what to do")
    stopping: bool = Field(description="whether its attempt has been asked to stop")
    reused_from: str | None = Field(
        description="the job whose artifacts were reused instead of running this one"
    )
    cost: JobCostView | None = Field(
        description="what it took; null if it has not succeeded, reused a result, or was resumed"
    )
    summary: dict[str, Any] | None = Field(
        description="what it has found, in brief: of a report, the verdict's `level` and `headline`; "
        "null if its stage says nothing, or it has not succeeded"
    )
    preview: PreviewView | None = Field(
        description="what an attack sees of its reconstruction so far; null if there is none"
    )
    no_cache: bool
    priority: int
    time_limit: float | None = Field(description="time limit of each attempt, in seconds")
    attempt: int
    lost_count: int = Field(description="attempts lost with their worker")
    worker: str | None
    created_at: str | None
    queued_at: str | None
    started_at: str | None
    finished_at: str | None
    request_key: str = Field(description="identical for identical requests; known at submission")
    cache_key: str | None = Field(
        description="identical for identical results; known once its inputs are known"
    )
    data: dict[str, str] = Field(
        description="by path, the sha256 of the data files that it and its ancestors read; "
        "`absent` for optional files that do not exist"
    )
    code: str = Field(description="digest of the code that produces its result")
    version: int = Field(description="increases with every step of the job")
    created: bool | None = Field(
        None, description="in the response to a POST: false if an identical job is reused"
    )


def _serialize_source(i: Input) -> dict[str, str]:
    return (
        {"job": i.parent, "role": i.parent_role or i.role}
        if i.parent
        else {"sha256": str(i.sha256)}
    )


def serialize_job(job: Job) -> dict[str, Any]:
    """A job, as `JobView` describes it."""
    artifacts = {
        a.role: {
            "sha256": a.sha256,
            "size": a.size,
            "media_type": a.media_type,
            "url": f"/v1/artifacts/{a.sha256}",
            "expired_at": format_rfc3339(a.expired_at),
        }
        for a in job.artifacts
    }
    copied = (
        "id", "stage", "method", "seed", "failure", "message", "reused_from", "no_cache",
        "priority", "time_limit", "attempt", "lost_count", "worker", "request_key", "cache_key",
        "code", "version",
    )  # fmt: skip
    times = ("created_at", "queued_at", "started_at", "finished_at")
    converted: dict[str, Any] = {
        "state": str(job.state),
        "params": dict(job.params),
        "inputs": {i.role: _serialize_source(i) for i in job.inputs},
        "produces": list(job.produces),
        "artifacts": artifacts,
        "audits": list(job.audits),
        "progress": dict(job.progress),
        "data": dict(job.data_digests),
        "stopping": job.stop is not None,
        "cost": _serialize_cost(job.cost),
        "summary": None if job.summary is None else dict(job.summary),
        "preview": _serialize_preview(job.id, job.preview),
    }
    fields = {
        **{name: getattr(job, name) for name in copied},
        **{name: format_rfc3339(getattr(job, name)) for name in times},
        **converted,
    }
    return {name: fields[name] for name in JobView.model_fields if name in fields}


class VerdictView(BaseModel):
    """The verdict of a report, in brief."""

    level: str = Field(description="leaks, reduced, no_leak_seen or inconclusive")
    headline: str


class AuditView(BaseModel):
    """One grid of choices."""

    id: str
    name: str
    state: str = Field(description="queued, running, succeeded, failed or cancelled")
    counts: dict[str, int] = Field(description="number of its jobs in each state")
    created_at: str | None
    cancelled_at: str | None
    finished_at: str | None = Field(
        description="when it was cancelled, or its last job ended; null while it is running"
    )
    verdict: VerdictView | None = Field(
        description="of its report, whose `report.json` has all of it; null while there is none"
    )
    labels: dict[str, str] = Field(description="by key, values of your choice")
    metadata: dict[str, Any] = Field(description="a JSON object of your own")
    jobs_url: str
    spec: dict[str, Any]
    stages: dict[str, dict[str, int]] | None = Field(
        None, description="by stage, the number of jobs in each state"
    )


def serialize_audit(
    audit: Audit, stages: dict[str, dict[str, int]] | None = None
) -> dict[str, Any]:
    """An audit, as `AuditView` describes it."""
    body: dict[str, Any] = {
        "id": audit.id,
        "name": audit.name,
        "state": audit.state,
        "counts": dict(audit.counts),
        "created_at": format_rfc3339(audit.created_at),
        "cancelled_at": format_rfc3339(audit.cancelled_at),
        "finished_at": format_rfc3339(audit.finished_at),
        "verdict": None if audit.verdict is None else dict(audit.verdict),
        "labels": dict(audit.labels),
        "metadata": dict(audit.metadata),
        "jobs_url": f"/v1/jobs?audit={audit.id}",
        "spec": dict(audit.spec),
    }
    return body if stages is None else {**body, "stages": stages}


class EventView(BaseModel):
    """An event of a job."""

    seq: int = Field(description="counts from 1 within the job")
    at: str
    kind: str = Field(description="state, progress, checkpoint, priority or cancel")
    data: dict[str, Any]


def serialize_event(event: Event) -> dict[str, Any]:
    """An event, as `EventView` describes it."""
    return {
        "seq": event.seq,
        "at": format_rfc3339(event.at),
        "kind": event.kind,
        "data": dict(event.data),
    }


class PlannedJobView(BaseModel):
    """A job that an audit would create."""

    stage: str
    method: str | None
    seed: int
    params: dict[str, Any]
    request_key: str
    reused: str | None = Field(
        description="the identical job that would be reused, if there is one"
    )
    state: str | None = Field(description="that job's state")


def serialize_planned_job(job: PlannedJob, existing: tuple[str, str] | None) -> dict[str, Any]:
    """A planned job, as `PlannedJobView` describes it."""
    reused, state = existing or (None, None)
    return {
        "stage": job.stage,
        "method": job.method,
        "seed": job.seed,
        "params": dict(job.params),
        "request_key": job.request_key,
        "reused": reused,
        "state": state,
    }


class WorkerView(BaseModel):
    """A worker process that was seen within the last hour."""

    id: str
    live: bool
    drain: bool = Field(
        description="whether it has been asked to return its job to the queue and take no other"
    )
    drained_at: str | None = Field(
        description="when an operator drained it; null: it drains only if it shuts down"
    )
    host: str
    pid: int
    stages: list[str]
    device: str
    threads: int
    versions: dict[str, str]
    catalog: str = Field(description="digest of the catalog it serves")
    job: str | None
    memory_bytes: int | None = Field(description="memory that its process uses on the host")
    device_memory_bytes: int | None = Field(
        description="what it has reserved on its accelerator; null without one"
    )
    started_at: str | None
    seen_at: str | None


def serialize_worker(worker: Worker) -> dict[str, Any]:
    """A worker, as `WorkerView` describes it."""
    copied = (
        "id", "live", "drain", "host", "pid", "device", "threads", "catalog", "job",
        "memory_bytes", "device_memory_bytes",
    )  # fmt: skip
    return {
        **{name: getattr(worker, name) for name in copied},
        "stages": list(worker.stages),
        "versions": dict(worker.versions),
        "drained_at": format_rfc3339(worker.drained_at),
        "started_at": format_rfc3339(worker.started_at),
        "seen_at": format_rfc3339(worker.seen_at),
    }
