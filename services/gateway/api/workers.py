"""/v1/queues and /v1/workers."""

from __future__ import annotations

from dataclasses import asdict

from flask import Response, jsonify
from pydantic import BaseModel, Field

from services.gateway.api._blueprint import make_blueprint
from services.gateway.deps import current_gateway
from services.gateway.schemas import WorkerView, serialize_worker
from shared.jobs import monitoring, worker_registry

routes = make_blueprint("workers", "queues and workers")


class QueueView(BaseModel):
    stage: str
    counts: dict[str, int] = Field(description="jobs by state")
    workers: int = Field(description="live workers that serve it")
    oldest_age_s: float | None = Field(
        description="seconds for which the oldest queued job has been queued; null without one"
    )
    finished: int = Field(
        description="jobs that have ended, also those that are deleted by now: two readings give a "
        "rate"
    )
    mean_run_s: float | None = Field(
        description="mean duration in seconds of their last attempts; null before the first"
    )


class QueueList(BaseModel):
    items: list[QueueView]


class WorkerList(BaseModel):
    items: list[WorkerView]


@routes.get("/queues", responses={200: QueueList})
def get_queues() -> Response:
    """List each stage's queue: jobs by state, and the number of live workers that serve it.

    With very many jobs the counts may be a few seconds old; the header `Age` has their age in
    seconds.
    """
    snapshot, live_workers = (
        current_gateway().queue_counts.current(),
        worker_registry.count_live_by_stage(current_gateway().deps.db),
    )
    counts = snapshot.counts
    stages = sorted(
        {*current_gateway().catalog_cache.catalog.list_names("stage"), *counts, *live_workers}
    )
    progress = monitoring.read_progress(current_gateway().deps.db, stages)
    items = [
        {
            "stage": stage,
            "counts": counts.get(stage, {}),
            "workers": live_workers.get(stage, 0),
            **asdict(progress[stage]),
        }
        for stage in stages
    ]
    response = jsonify({"items": items})
    response.headers["Age"] = str(int(snapshot.age_s))
    return response


@routes.get("/workers", responses={200: WorkerList})
def get_workers() -> Response:
    """List the workers seen in the last hour, live ones first, with their current jobs."""
    return jsonify(
        {
            "items": [
                serialize_worker(w) for w in worker_registry.list_workers(current_gateway().deps.db)
            ]
        }
    )
