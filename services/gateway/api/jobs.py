"""/v1/jobs: submit, list, get, preview, cancel one or many, retry, pause, resume, change the priority."""

from __future__ import annotations

from typing import Annotated, Any

from flask import Response, jsonify, request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from services.gateway import job_control
from services.gateway.api._blueprint import PageQuery, Query, make_blueprint
from services.gateway.api._dry_run import DryRun, DryRunQuery, describe_dry_run
from services.gateway.deps import current_store
from services.gateway.filters import JobFields
from services.gateway.problems import document_errors
from services.gateway.responses import respond_accepted, respond_with_digest_etag
from services.gateway.schemas import JobView, format_rfc3339, serialize_job
from services.gateway.submission import (
    JOB_ID,
    IdempotencyHeader,
    JobRequest,
    find_request_replay,
    plan_job_request,
    require_id_format,
    store_planned,
)
from shared.artifacts import compute_sha256
from shared.errors import InvalidRequest
from shared.jobs.filters import JobFilter
from shared.jobs.previews import MEDIA_TYPE
from shared.jobs.records import SubmitResult
from shared.jobs.states import TERMINAL

routes = make_blueprint("jobs", "one unit of work at one stage")


class JobPath(BaseModel):
    job_id: str = Field(description="job_...")

    @property
    def valid_id(self) -> str:
        return require_id_format(self.job_id, JOB_ID, "job")


class JobsQuery(PageQuery, JobFields):
    """Which jobs."""


class PreviewQuery(Query):
    step: int | None = Field(
        None, description="ignored: another URL for another picture, for browsers"
    )


_PNG_RESPONSE = {
    "description": "the picture",
    "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
}


class CancelBody(JobFields):
    """Which jobs to cancel; at least one filter."""

    model_config = ConfigDict(extra="forbid")

    def to_selection(self) -> JobFilter:
        """The filter of the job store.

        Raises:
            InvalidRequest: there is no filter, or two contradict each other, or it selects jobs
                that have ended.
        """
        if not self.model_fields_set or self.model_dump(exclude_none=True) == {}:
            raise InvalidRequest("give at least one filter: this would cancel all of your jobs")
        if self.finished_after is not None:
            raise InvalidRequest("jobs that have ended cannot be cancelled", "finished_after")
        if self.state in TERMINAL:
            raise InvalidRequest(f"{self.state} jobs have ended: ask for another state", "state")
        return self.to_job_filter()


class CancelQuery(Query):
    dry_run: bool = Field(False, description="only count the jobs that would be cancelled")


class CancelView(BaseModel):
    """How far it came."""

    cancelled: int = Field(description="jobs that were cancelled; with `dry_run`, that would be")
    stopping: int = Field(
        description="running jobs that were asked to stop; with `dry_run`, that would be"
    )
    remaining: int = Field(
        description="selected jobs that are left: send the same request again, with "
        "`created_before`"
    )
    created_before: str = Field(
        description="jobs created at or after this time are not selected, so that a repeated request, "
        "or the one after a `dry_run`, selects no others"
    )


def _read_whole_number(value: Any) -> Any:
    """JSON does not tell 3.0 from 3."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WholeNumber = Annotated[int, BeforeValidator(_read_whole_number)]


class PriorityBody(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    priority: WholeNumber = Field(
        ge=-100, le=100, description="jobs with a higher priority run first"
    )


class JobPage(BaseModel):
    items: list[JobView]
    next: str | None = Field(description="token of the next page; null at the end")


@routes.post(
    "/jobs", responses={200: DryRun, 202: JobView, **document_errors(400, 409, 413, 415, 422)}
)
def post_job(body: JobRequest, query: DryRunQuery, header: IdempotencyHeader) -> Response:
    """Submit one job, or with `dry_run` see whether an equal one exists and what it would cost.

    An equal job of yours, live or finished, is reused (`created: false`), unless `no_cache` is set.
    """
    key = None if query.dry_run else header.to_key()
    submitted = find_request_replay(key)
    if submitted is None:
        planned = [plan_job_request(body)]
        if query.dry_run:
            return jsonify(describe_dry_run(planned, (), query.workers))
        submitted = store_planned(planned, key, priority=body.priority, time_limit=body.time_limit)
    return _respond_submitted(submitted)


def _respond_submitted(submitted: SubmitResult) -> Response:
    (job_id,) = submitted.jobs.values()
    job = submitted.new.get(job_id) or current_store().get_job(job_id)
    body = {**serialize_job(job), "created": job_id in submitted.created}
    return respond_accepted(body, f"/v1/jobs/{job_id}", replayed=submitted.replayed)


@routes.get("/jobs", responses={200: JobPage, **document_errors(404, 422)})
def list_jobs(query: JobsQuery) -> Response:
    """List jobs, newest first.

    Where jobs have megabytes of parameters, a page may have fewer than `limit`, and still a `next`
    page.
    """
    page = current_store().list_jobs(
        filters=query.to_job_filter(), limit=query.limit, page=query.page
    )
    return jsonify({"items": [serialize_job(j) for j in page.items], "next": page.next})


@routes.post(
    "/jobs/cancel", responses={200: CancelView, **document_errors(400, 404, 413, 415, 422)}
)
def cancel_jobs(body: CancelBody, query: CancelQuery) -> Response:
    """Cancel all jobs that match the filters and have not ended, or with `dry_run` count them. Jobs
    that wait for a cancelled job fail.

    A request with very many jobs cancels only a part of them: repeat it while jobs remain. What it
    has cancelled stays cancelled, even if it fails.
    """
    selection = body.to_selection()
    done = (job_control.count_selected if query.dry_run else job_control.cancel_selected)(selection)
    return jsonify(
        {
            "cancelled": done.cancelled,
            "stopping": done.stopping,
            "remaining": done.remaining,
            "created_before": format_rfc3339(done.filters.created_before),
        }
    )


@routes.get("/jobs/<job_id>", responses={200: JobView, 304: None, **document_errors(404)})
def get_job(path: JobPath) -> Response:
    """Get one job. Its ETag changes whenever the job changes: until then, a request with
    If-None-Match gets a 304."""
    return respond_with_digest_etag(serialize_job(current_store().get_job(path.valid_id)))


@routes.get(
    "/jobs/<job_id>/preview", responses={200: _PNG_RESPONSE, 304: None, **document_errors(404)}
)
def get_preview(path: JobPath, query: PreviewQuery) -> Response:  # noqa: ARG001 - see its field
    """Get the latest picture of what an attack sees of its reconstruction: a grid of its first
    samples, never of what was deleted.

    404 if the job has none: it is no such attack, has not run for long, or ended a while ago.
    """
    response = Response(current_store().get_preview(path.valid_id).body, content_type=MEDIA_TYPE)
    response.set_etag(compute_sha256(response.get_data())[:32])
    response.make_conditional(request)
    return response


@routes.post("/jobs/<job_id>/cancel", responses={202: JobView, **document_errors(404)})
def cancel_job(path: JobPath) -> Response:
    """Cancel a job: at once if it is not running, within seconds if it is. Repeatable."""
    job_control.cancel_job(path.valid_id)
    return _respond_changed(path.valid_id)


@routes.post("/jobs/<job_id>/retry", responses={202: JobView, **document_errors(404, 409)})
def retry_job(path: JobPath) -> Response:
    """Rerun a failed or cancelled job, from its checkpoint if it has one."""
    job_control.retry_job(path.valid_id)
    return _respond_changed(path.valid_id)


@routes.post("/jobs/<job_id>/pause", responses={202: JobView, **document_errors(404, 409)})
def pause_job(path: JobPath) -> Response:
    """Pause a queued job: no worker claims it until it is resumed."""
    current_store().pause_job(path.valid_id)
    return _respond_changed(path.valid_id)


@routes.post("/jobs/<job_id>/resume", responses={202: JobView, **document_errors(404, 409)})
def resume_job(path: JobPath) -> Response:
    """Resume a paused job."""
    job_control.resume_job(path.valid_id)
    return _respond_changed(path.valid_id)


@routes.post(
    "/jobs/<job_id>/priority", responses={202: JobView, **document_errors(400, 404, 409, 413, 415)}
)
def set_job_priority(path: JobPath, body: PriorityBody) -> Response:
    """Change the priority of a job that has not ended. Repeatable."""
    current_store().set_job_priority(path.valid_id, body.priority)
    return _respond_changed(path.valid_id)


def _respond_changed(job_id: str) -> Response:
    return respond_accepted(serialize_job(current_store().get_job(job_id)), f"/v1/jobs/{job_id}")
