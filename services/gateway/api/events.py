"""/v1/jobs/{id}/events: a job's events, as a stream or as pages."""

from __future__ import annotations

from typing import Annotated

from flask import Response, jsonify, request
from pydantic import BaseModel, Field

from services.gateway.api._blueprint import Query, make_blueprint
from services.gateway.api.jobs import JobPath
from services.gateway.deps import current_store
from services.gateway.event_streams import MEDIA_TYPE, respond_stream
from services.gateway.job_events import PAGE_SIZE, JobEvents, format_events, is_over
from services.gateway.principal import current_principal
from services.gateway.problems import document_errors
from services.gateway.schemas import EventView, serialize_event

routes = make_blueprint("events", "events of a job")

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
    if request.accept_mimetypes.best_match(["application/json", MEDIA_TYPE]) != MEDIA_TYPE:
        return _respond_page(path.valid_id, after, query.limit)
    job, events = current_store().list_events(path.valid_id, after, PAGE_SIZE)
    over = is_over(job, events)
    if over and not events:
        return Response(status=204)
    last_seq = events[-1].seq if events else after
    following = None if over else JobEvents(job.id, last_seq, current_principal().key)
    return respond_stream(format_events(events), following)


def _respond_page(job_id: str, after: int, limit: int) -> Response:
    _, events = current_store().list_events(job_id, after, limit)
    return jsonify(
        {
            "items": [serialize_event(e) for e in events],
            "next": events[-1].seq if len(events) == limit else None,
        }
    )
