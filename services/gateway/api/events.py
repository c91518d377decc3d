"""/v1/jobs/{id}/events: what happened to a job, as a stream or as pages."""

from __future__ import annotations

from typing import Annotated

from flask import Response, jsonify, request
from pydantic import BaseModel, Field

from services.gateway.api._blueprint import Query, blueprint
from services.gateway.api.jobs import JobPath
from services.gateway.deps import db, gateway, tenant
from services.gateway.problems import RETRY_AFTER, documented, problem
from services.gateway.streams import FOLLOW, OFFERED, RETRY, Follow, Slot, frames, is_over
from services.gateway.views import EventView, event_json
from services.gateway.watch import PAGE
from shared.jobs import reads

routes = blueprint("events", "what happened to a job")

SSE = "text/event-stream"
Seq = Annotated[int, Field(ge=0, le=2**31 - 1)]


class EventsQuery(Query):
    after: Seq = Field(0, description="only events with a greater sequence number")
    limit: int = Field(PAGE, ge=1, le=PAGE, description="how many (JSON only)")


class ResumeHeader(BaseModel):
    last_event_id: Seq | None = Field(
        None, alias="Last-Event-ID", description="the `id` that a stream ended with; goes before `after`"
    )


class EventPage(BaseModel):
    items: list[EventView]
    next: int | None = Field(description="`after` of the next page; null when there is none yet")


@routes.get("/jobs/<job_id>/events", responses={200: EventPage, 204: None, **documented(404, 422)})
def get_events(path: JobPath, query: EventsQuery, header: ResumeHeader) -> Response:
    """Follow a job.

    With `Accept: text/event-stream` a stream: `id` is the sequence number, `event` the kind, `data` the
    event as JSON. It ends with the event that ended the job, or after some minutes: resume with
    Last-Event-ID. 204 says that the job has ended and nothing follows. Otherwise a page as JSON.
    """
    after = query.after if header.last_event_id is None else header.last_event_id
    if request.accept_mimetypes.best_match(["application/json", SSE]) != SSE:
        return _page(path.checked, after, query.limit)
    gate = gateway()
    job, found = reads.events_after(db(), tenant(), path.checked, after, PAGE)
    if not found and is_over(job, found):
        return Response(status=204)
    if not is_over(job, found) and OFFERED in request.environ:
        if not gate.stream_slots.acquire(blocking=False):
            busy = f"{gate.deps.settings.max_events} event streams are open already: try again, or ask without a stream"
            return problem(503, busy, headers={"Retry-After": str(RETRY_AFTER)})
        seen = found[-1].seq if found else after
        request.environ[FOLLOW] = Follow(job.id, seen, Slot(gate.stream_slots))
    response = Response(iter([RETRY + frames(found)]), content_type=SSE)
    response.headers["X-Accel-Buffering"] = "no"
    response.headers["Cache-Control"] = "no-store"
    return response


def _page(job_id: str, after: int, limit: int) -> Response:
    _, found = reads.events_after(db(), tenant(), job_id, after, limit)
    return jsonify({"items": [event_json(e) for e in found], "next": found[-1].seq if len(found) == limit else None})
