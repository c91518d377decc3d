"""/v1/jobs: submit, list, get, cancel, retry, pause, resume."""

from __future__ import annotations

from typing import Annotated

from flask import Response, jsonify
from pydantic import BaseModel, Field, StringConstraints

from services.gateway.api._blueprint import PageQuery, make_blueprint
from services.gateway.api._dry_run import DryRun, DryRunQuery, respond_dry_run
from services.gateway.deps import current_gateway, current_store
from services.gateway.problems import document_errors
from services.gateway.responses import respond_accepted, respond_with_etag
from services.gateway.schemas import JobView, serialize_job
from services.gateway.submission import (
    AUDIT_ID,
    JOB_ID,
    IdempotencyHeader,
    JobRequest,
    find_request_replay,
    plan_job_request,
    require_id_format,
    store_planned,
)
from shared.artifacts import compute_sha256
from shared.jobs.records import Job, SubmitResult
from shared.jobs.states import State

routes = make_blueprint("jobs", "one unit of work at one stage")

FilterValue = Annotated[str, StringConstraints(pattern=r"^[\w.-]{1,64}$")]


class JobPath(BaseModel):
    job_id: str = Field(description="job_...")

    @property
    def valid_id(self) -> str:
        return require_id_format(self.job_id, JOB_ID, "job")


class JobsQuery(PageQuery):
    """Which jobs."""

    stage: FilterValue | None = None
    method: FilterValue | None = None
    state: State | None = None
    audit: str | None = Field(None, max_length=64, description="only this audit's jobs")


class JobPage(BaseModel):
    items: list[JobView]
    next: str | None = Field(description="token of the next page; null at the end")


@routes.post(
    "/jobs", responses={200: DryRun, 202: JobView, **document_errors(400, 409, 413, 415, 422)}
)
def post_job(body: JobRequest, query: DryRunQuery, header: IdempotencyHeader) -> Response:
    """Submit one job, or with `dry_run` see whether an equal one exists and what it would cost.

    An equal live or finished job of yours is reused (`created: false`), unless `no_cache` is set.
    """
    key = None if query.dry_run else header.to_key()
    submitted = find_request_replay(key)
    if submitted is None:
        planned = [plan_job_request(body)]
        if query.dry_run:
            return respond_dry_run(planned, (), query)
        submitted = store_planned(planned, key, priority=body.priority, time_limit=body.time_limit)
    return _respond_submitted(submitted)


def _respond_submitted(submitted: SubmitResult) -> Response:
    (job_id,) = submitted.jobs.values()
    job = submitted.new.get(job_id) or current_store().get_job(job_id)
    body = {**serialize_job(job), "created": job_id in submitted.created}
    return respond_accepted(body, f"/v1/jobs/{job_id}", replayed=submitted.replayed)


@routes.get("/jobs", responses={200: JobPage, **document_errors(404, 422)})
def list_jobs(query: JobsQuery) -> Response:
    """List jobs, newest first."""
    if query.audit is not None:
        current_store().get_audit(require_id_format(query.audit, AUDIT_ID, "audit"))
    filters = {
        n: str(v) for n in ("stage", "method", "state") if (v := getattr(query, n)) is not None
    }
    page = current_store().list_jobs(
        filters=filters,
        audit=query.audit,
        limit=query.limit,
        page=query.page,
    )
    return jsonify({"items": [serialize_job(j) for j in page.items], "next": page.next})


@routes.get("/jobs/<job_id>", responses={200: JobView, 304: None, **document_errors(404)})
def get_job(path: JobPath) -> Response:
    """Get one job. Its ETag changes whenever the job does: until then, If-None-Match gets a 304."""
    job = current_store().get_job(path.valid_id)
    return respond_with_etag(serialize_job(job), _make_etag(job))


def _make_etag(job: Job) -> str:
    # joining another audit changes the response, but not the job's version
    return (
        f"{job.version}-{compute_sha256(' '.join(job.audits).encode())[:8]}"
        if job.audits
        else str(job.version)
    )


@routes.post("/jobs/<job_id>/cancel", responses={202: JobView, **document_errors(404)})
def cancel_job(path: JobPath) -> Response:
    """Cancel a job: at once if it is not running, within seconds if it is. Repeatable."""
    current_gateway().deps.wakeup_sender.notify(current_store().cancel_job(path.valid_id))
    return _respond_changed(path.valid_id)


@routes.post("/jobs/<job_id>/retry", responses={202: JobView, **document_errors(404, 409)})
def retry_job(path: JobPath) -> Response:
    """Rerun a failed or cancelled job, from its checkpoint if it has one."""
    current_gateway().deps.wakeup_sender.notify(current_store().retry_job(path.valid_id))
    return _respond_changed(path.valid_id)


@routes.post("/jobs/<job_id>/pause", responses={202: JobView, **document_errors(404, 409)})
def pause_job(path: JobPath) -> Response:
    """Pause a queued job: no worker claims it until it is resumed."""
    current_store().pause_job(path.valid_id)
    return _respond_changed(path.valid_id)


@routes.post("/jobs/<job_id>/resume", responses={202: JobView, **document_errors(404, 409)})
def resume_job(path: JobPath) -> Response:
    """Resume a paused job."""
    current_gateway().deps.wakeup_sender.notify(current_store().resume_job(path.valid_id))
    return _respond_changed(path.valid_id)


def _respond_changed(job_id: str) -> Response:
    return respond_accepted(serialize_job(current_store().get_job(job_id)), f"/v1/jobs/{job_id}")
