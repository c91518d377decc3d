"""/v1/queues and /v1/workers: what waits and who works; pause and drain."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from flask import Response, jsonify
from pydantic import BaseModel, Field

from services.gateway import operator_actions
from services.gateway.api._blueprint import make_blueprint
from services.gateway.deps import current_gateway
from services.gateway.problems import document_errors
from services.gateway.queue_reading import StageQueue, choose_tenant, read_queue, read_recent_queues
from services.gateway.schemas import WorkerView, format_rfc3339, serialize_worker
from services.gateway.scopes import require_scope
from services.gateway.submission import STAGE_NAME, WORKER_ID, require_id_format
from shared.jobs import worker_drains, worker_registry
from shared.jobs.keys import ADMIN

routes = make_blueprint("workers", "queues and workers")


class QueueView(BaseModel):
    stage: str
    counts: dict[str, int] = Field(description="jobs by state")
    workers: int = Field(description="live workers that serve it")
    paused_at: str | None = Field(
        description="since when an operator has paused it; null: it is not paused"
    )
    oldest_age_s: float | None = Field(
        description="seconds for which the oldest queued job has been queued; null if there is none"
    )
    finished: int | None = Field(
        description="jobs that have ended, including those deleted since: two readings give a rate; "
        "null without the scope `admin`, because it counts the jobs of all tenants"
    )
    mean_run_s: float | None = Field(
        description="mean duration in seconds of their last attempts; null before the first, and "
        "without the scope `admin`"
    )


class QueueList(BaseModel):
    items: list[QueueView]


class WorkerList(BaseModel):
    items: list[WorkerView]


class DrainView(BaseModel):
    """How far a worker has come to rest."""

    id: str
    live: bool
    drain: bool = Field(description="whether it takes no jobs")
    drained_at: str | None = Field(description="when an operator drained it")
    job: str | None = Field(description="the job that it still has")


class StagePath(BaseModel):
    stage: str = Field(description="a stage")


class WorkerPath(BaseModel):
    worker_id: str = Field(description="the id of a worker")

    @property
    def valid_id(self) -> str:
        return require_id_format(self.worker_id, WORKER_ID, "worker")


@routes.get("/queues", responses={200: QueueList})
def get_queues() -> Response:
    """List the queue of each stage: your jobs by state, or with the scope `admin` those of all
    tenants; the number of live workers that serve it, and whether it is paused.

    With very many jobs the counts may be a few seconds old; the header `Age` gives their age in
    seconds.
    """
    queues, age_s = read_recent_queues()
    response = jsonify({"items": [_serialize_queue(queue) for queue in queues.values()]})
    response.headers["Age"] = str(int(age_s))
    return response


def _serialize_queue(queue: StageQueue) -> dict[str, Any]:
    return {
        "stage": queue.stage,
        "counts": queue.counts,
        "workers": queue.workers,
        **asdict(queue.progress),
        "paused_at": format_rfc3339(queue.paused_at),
    }


@routes.post("/queues/<stage>/pause", responses={200: QueueView, **document_errors(404)})
@require_scope(ADMIN)
def pause_stage(path: StagePath) -> Response:
    """Pause a stage, for all tenants: none of its jobs is claimed until it is resumed. Running jobs
    continue. Repeatable."""
    stage = require_id_format(path.stage, STAGE_NAME, "stage")
    operator_actions.pause_stage(stage)
    return jsonify(_serialize_queue(read_queue(stage)))


@routes.post("/queues/<stage>/resume", responses={200: QueueView, **document_errors(404)})
@require_scope(ADMIN)
def resume_stage(path: StagePath) -> Response:
    """Resume a paused stage. Repeatable."""
    stage = require_id_format(path.stage, STAGE_NAME, "stage")
    operator_actions.resume_stage(stage)
    return jsonify(_serialize_queue(read_queue(stage)))


@routes.get("/workers", responses={200: WorkerList})
def get_workers() -> Response:
    """List the workers seen in the last hour, live ones first, with their current jobs: only yours,
    or with the scope `admin` those of all tenants."""
    seen = worker_registry.list_workers(current_gateway().deps.db, choose_tenant())
    return jsonify({"items": [serialize_worker(worker) for worker in seen]})


@routes.post("/workers/<worker_id>/drain", responses={200: DrainView, **document_errors(404)})
@require_scope(ADMIN)
def drain_worker(path: WorkerPath) -> Response:
    """Drain a worker: it returns its job, with a checkpoint if its stage writes any, and takes no
    other until it is undrained, even if it is restarted under the same id. Repeatable.

    It does not exit. The attempt that it returns does not count as lost.
    """
    operator_actions.drain_worker(path.valid_id)
    return _respond_worker(path.valid_id)


@routes.post("/workers/<worker_id>/undrain", responses={200: DrainView, **document_errors(404)})
@require_scope(ADMIN)
def undrain_worker(path: WorkerPath) -> Response:
    """Let a drained worker take jobs again, unless it is shutting down. Repeatable."""
    operator_actions.undrain_worker(path.valid_id)
    return _respond_worker(path.valid_id)


def _respond_worker(worker_id: str) -> Response:
    db = current_gateway().deps.db
    drained_at = format_rfc3339(worker_drains.find_drained_at(db, worker_id))
    drain = DrainView(
        id=worker_id, live=False, drain=drained_at is not None, drained_at=drained_at, job=None
    )
    for worker in worker_registry.list_workers(db):
        if worker.id == worker_id:
            seen = serialize_worker(worker)
            drain = DrainView(**{name: seen[name] for name in DrainView.model_fields})
    return jsonify(drain.model_dump())
