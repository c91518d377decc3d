"""/v1/jobs/{id}/events: a job's events, as a stream or as pages."""

from __future__ import annotations

from typing import Annotated

from flask import Response, jsonify, request
from pydantic import BaseModel, Field

from services.gateway.api._blueprint import Query, make_blueprint
from services.gateway.api.jobs import JobPath
from services.gateway.deps import current_gateway, current_store
from services.gateway.event_poller import PAGE_SIZE
from services.gateway.event_streams import (
    CONTINUATION_KEY,
    RETRY_FIELD,
    STREAMING_KEY,
    StreamContinuation,
    StreamSlot,
    format_events,
    is_over,
)
from services.gateway.problems import RETRY_AFTER_S, document_errors, make_problem
from services.gateway.schemas import EventView, serialize_event

routes = make_blueprint("events", "events of a job")

EVENT_STREAM_TYPE = "text/event-stream"
EventSeq = Annotated[int, Field(ge=0, le=2**31 - 1)]


class EventsQuery(Query):
    after: EventSeq = Field(0, description="only events with a greater sequence number")
    limit: int = Field(PAGE_SIZE, ge=1, le=PAGE_SIZE, description="page size (JSON only)")


class ResumeHeader(BaseModel):
    last_event_id: EventSeq | None = Field(
        None,
        alias="Last-Event-ID",
        description="`id` of the last event that was received; overrides `after`",
    )


class EventPage(BaseModel):
    items: list[EventView]
    next: int | None = Field(description="`after` of the next page; null when there is none yet")


@routes.get(
    "/jobs/<job_id>/events", responses={200: EventPage, 204: None, **document_errors(404, 422)}
)
def get_events(path: JobPath, query: EventsQuery, header: ResumeHeader) -> Response:
    """Follow a job.

    With `Accept: text/event-stream` the response is a stream: `id` is the sequence number, `event`
    the kind, `data` the event as JSON. It ends when the job ends, or after a few minutes: resume
    with Last-Event-ID. 204 means that the job has ended and no event follows. Otherwise the
    response is a JSON page.
    """
    after = query.after if header.last_event_id is None else header.last_event_id
    if (
        request.accept_mimetypes.best_match(["application/json", EVENT_STREAM_TYPE])
        != EVENT_STREAM_TYPE
    ):
        return _respond_page(path.valid_id, after, query.limit)
    gateway = current_gateway()
    job, events = current_store().list_events(path.valid_id, after, PAGE_SIZE)
    if not events and is_over(job, events):
        return Response(status=204)
    if not is_over(job, events) and STREAMING_KEY in request.environ:
        if not gateway.stream_slots.acquire(blocking=False):
            detail = (
                f"{gateway.deps.settings.max_event_streams} event streams are open, which is the "
                "limit: try again, or request JSON pages"
            )
            return make_problem(503, detail, headers={"Retry-After": str(RETRY_AFTER_S)})
        last_seq = events[-1].seq if events else after
        request.environ[CONTINUATION_KEY] = StreamContinuation(
            job.id, last_seq, StreamSlot(gateway.stream_slots)
        )
    response = Response(iter([RETRY_FIELD + format_events(events)]), content_type=EVENT_STREAM_TYPE)
    response.headers["X-Accel-Buffering"] = "no"
    response.headers["Cache-Control"] = "no-store"
    return response


def _respond_page(job_id: str, after: int, limit: int) -> Response:
    _, events = current_store().list_events(job_id, after, limit)
    return jsonify(
        {
            "items": [serialize_event(e) for e in events],
            "next": events[-1].seq if len(events) == limit else None,
        }
    )
