"""A job's events as server-sent events: `id` is the sequence number in SQL, so a stream resumes
anywhere.

A route responds with the events so far and leaves a `StreamContinuation` in the WSGI environ;
`bridge.py` continues the stream from there on the event loop. Under a server without that bridge
the stream ends after its beginning, and the client resumes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass

from services.gateway.deps import StreamTiming
from services.gateway.event_poller import PAGE_SIZE, EventPoller
from services.gateway.schemas import serialize_event
from services.gateway.stream_slots import StreamSlot
from shared.jobs.records import Event, Job
from shared.jobs.states import TERMINAL

RETRY_FIELD = b"retry: 2000\n\n"  # a client whose stream ended reconnects after 2 s
HEARTBEAT_COMMENT = b": nothing new\n\n"
STREAMING_KEY = "palimpsest.streams"  # in the WSGI environ: this server can continue a stream
CONTINUATION_KEY = "palimpsest.continuation"  # the `StreamContinuation` from which it continues


@dataclass(frozen=True)
class StreamContinuation:
    """From where a stream continues: after this event of this job, in this slot, as long as this
    key is valid (None: the token is no key)."""

    job_id: str
    after: int
    slot: StreamSlot
    key: str | None = None


def format_event(event: Event) -> bytes:
    """One event in the stream's format."""
    data = json.dumps(serialize_event(event), separators=(",", ":"))
    return f"id: {event.seq}\nevent: {event.kind}\ndata: {data}\n\n".encode()


def format_events(events: Iterable[Event]) -> bytes:
    """Several events in the stream's format."""
    return b"".join(map(format_event, events))


def is_over(job: Job, events: list[Event]) -> bool:
    """Whether nothing can follow these events: the job has ended and this was its last page."""
    return job.state in TERMINAL and len(events) < PAGE_SIZE


async def continue_stream(
    poller: EventPoller, continuation: StreamContinuation, timing: StreamTiming
) -> AsyncGenerator[bytes, None]:
    """Yield further events as they come, until the job ends, the key is no longer valid, the stream's
    time is up or the server stops."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + timing.max_duration_s
    next_heartbeat = clock() + timing.heartbeat_s
    subscription = poller.subscribe(continuation.job_id, continuation.after, continuation.key)
    try:
        while not subscription.is_over and (now := clock()) < deadline:
            events, has_more = await subscription.read_page(min(next_heartbeat, deadline) - now)
            if events:
                yield format_events(events)
            elif clock() >= next_heartbeat:
                yield HEARTBEAT_COMMENT
            else:
                continue
            next_heartbeat = clock() + timing.heartbeat_s
            if has_more:
                poller.poll_now()
    finally:
        poller.unsubscribe(subscription)
