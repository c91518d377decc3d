"""/v1/jobs: post one, list, look, cancel, retry, hold."""

from __future__ import annotations

from typing import Annotated

from flask import Response, jsonify
from pydantic import BaseModel, Field, StringConstraints

from services.gateway.answers import accepted, with_etag
from services.gateway.api._blueprint import PageQuery, blueprint
from services.gateway.deps import db, gateway, tenant
from services.gateway.problems import documented
from services.gateway.submission import (
    AUDIT_ID,
    JOB_ID,
    IdempotencyHeader,
    JobRequest,
    answered_before,
    known_form,
    plan_posted,
    store,
)
from services.gateway.views import JobView, job_json
from shared.artifacts import digest
from shared.jobs import control, reads
from shared.jobs.records import Job, Submitted
from shared.jobs.states import State

routes = blueprint("jobs", "one unit of work at one stage")

Word = Annotated[str, StringConstraints(pattern=r"^[\w.-]{1,64}$")]


class JobPath(BaseModel):
    job_id: str = Field(description="job_...")

    @property
    def checked(self) -> str:
        return known_form(self.job_id, JOB_ID, "job")


class JobsQuery(PageQuery):
    """Which jobs."""

    stage: Word | None = None
    method: Word | None = None
    state: State | None = None
    audit: str | None = Field(None, max_length=64, description="only this audit's jobs")


class JobPage(BaseModel):
    items: list[JobView]
    next: str | None = Field(description="token of the next page; null at the end")


@routes.post("/jobs", responses={202: JobView, **documented(400, 409, 413, 415, 422)})
def post_job(body: JobRequest, header: IdempotencyHeader) -> Response:
    """Submit one job.

    An equal live or finished job of yours is shared (`created: false`), unless `fresh` is set.
    """
    posted = header.posted()
    earlier = answered_before(posted)
    if earlier is None:
        planned = [plan_posted(body)]
        earlier = store(planned, posted, priority=body.priority, time_limit=body.time_limit)
    return _submitted(earlier)


def _submitted(submitted: Submitted) -> Response:
    (job_id,) = submitted.jobs.values()
    job = submitted.new.get(job_id) or reads.get_job(db(), tenant(), job_id)
    body = {**job_json(job), "created": job_id in submitted.created}
    return accepted(body, f"/v1/jobs/{job_id}", replayed=submitted.replayed)


@routes.get("/jobs", responses={200: JobPage, **documented(404, 422)})
def list_jobs(query: JobsQuery) -> Response:
    """List jobs, newest first."""
    if query.audit is not None:
        reads.get_audit(db(), tenant(), known_form(query.audit, AUDIT_ID, "audit"))
    filters = {n: str(v) for n in ("stage", "method", "state") if (v := getattr(query, n)) is not None}
    page = reads.list_jobs(db(), tenant(), filters=filters, audit=query.audit, limit=query.limit, page=query.page)
    return jsonify({"items": [job_json(j) for j in page.items], "next": page.next})


@routes.get("/jobs/<job_id>", responses={200: JobView, 304: None, **documented(404)})
def get_job(path: JobPath) -> Response:
    """Look at one job. Its ETag changes with every change: If-None-Match answers 304 until then."""
    job = reads.get_job(db(), tenant(), path.checked)
    return with_etag(job_json(job), _etag(job))


def _etag(job: Job) -> str:
    # joining another audit changes what is shown, not the job
    return f"{job.version}-{digest(' '.join(job.audits).encode())[:8]}" if job.audits else str(job.version)


@routes.post("/jobs/<job_id>/cancel", responses={202: JobView, **documented(404)})
def cancel_job(path: JobPath) -> Response:
    """Ask a job to end: at once where it does not run, within seconds where it does. Repeatable."""
    gateway().deps.ringer.ring(control.cancel_job(db(), tenant(), path.checked))
    return _changed(path.checked)


@routes.post("/jobs/<job_id>/retry", responses={202: JobView, **documented(404, 409)})
def retry_job(path: JobPath) -> Response:
    """Run a failed or cancelled job again, from its checkpoint if it has one."""
    gateway().deps.ringer.ring(control.retry_job(db(), tenant(), path.checked))
    return _changed(path.checked)


@routes.post("/jobs/<job_id>/hold", responses={202: JobView, **documented(404, 409)})
def hold_job(path: JobPath) -> Response:
    """Keep a queued job from being taken."""
    control.hold_job(db(), tenant(), path.checked)
    return _changed(path.checked)


@routes.post("/jobs/<job_id>/unhold", responses={202: JobView, **documented(404, 409)})
def unhold_job(path: JobPath) -> Response:
    """Let a held job be taken again."""
    gateway().deps.ringer.ring(control.unhold_job(db(), tenant(), path.checked))
    return _changed(path.checked)


def _changed(job_id: str) -> Response:
    return accepted(job_json(reads.get_job(db(), tenant(), job_id)), f"/v1/jobs/{job_id}")
