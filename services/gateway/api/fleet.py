"""/v1/queues and /v1/workers: who works, and on what."""

from __future__ import annotations

from flask import Response, jsonify
from pydantic import BaseModel, Field

from services.gateway.api._blueprint import blueprint
from services.gateway.deps import db, gateway
from services.gateway.views import WorkerView, worker_json
from shared.jobs import fleet

routes = blueprint("fleet", "who works, and on what")


class QueueView(BaseModel):
    stage: str
    counts: dict[str, int] = Field(description="jobs by state")
    workers: int = Field(description="live workers that serve it")


class Queues(BaseModel):
    items: list[QueueView]


class Workers(BaseModel):
    items: list[WorkerView]


@routes.get("/queues", responses={200: Queues})
def get_queues() -> Response:
    """See each stage's queue: jobs by state, and how many live workers serve it.

    With very many jobs the counts may be some seconds old: the header `Age` says how many.
    """
    counted, workers = gateway().counts.current(), fleet.live_by_stage(db())
    counts = counted.counts
    stages = sorted({*gateway().catalog.catalog.names("stage"), *counts, *workers})
    items = [{"stage": s, "counts": counts.get(s, {}), "workers": workers.get(s, 0)} for s in stages]
    response = jsonify({"items": items})
    response.headers["Age"] = str(int(counted.age))
    return response


@routes.get("/workers", responses={200: Workers})
def get_workers() -> Response:
    """See every worker of the last hour, live ones first, with the job each one has."""
    return jsonify({"items": [worker_json(w) for w in fleet.fleet(db())]})
