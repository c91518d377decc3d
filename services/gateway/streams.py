"""A job's events as server-sent events: `id` is the sequence number in SQL, so a stream resumes anywhere.

A route answers with the beginning of a stream and leaves a `Follow` in the WSGI environ; the server's side of the
gateway (`asgi.py`) goes on from there, on its event loop. A server that does not offer that ends the stream
after its beginning, and the reader resumes.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass

from services.gateway.deps import StreamTimes
from services.gateway.views import event_json
from services.gateway.watch import PAGE, Watch
from shared.jobs.records import Event, Job
from shared.jobs.states import TERMINAL

RETRY = b"retry: 2000\n\n"  # a reader whose stream ends comes back after 2 s
HEARTBEAT = b": nothing new\n\n"
OFFERED = "palimpsest.streams"  # in the WSGI environ: this server goes on with a stream
FOLLOW = "palimpsest.follow"  # the `Follow` that it is to go on with


class Slot:
    """One of the streams that may be open at once; given back once, whoever notices the end first."""

    def __init__(self, slots: threading.Semaphore) -> None:
        self._slots: threading.Semaphore | None = slots

    def free(self) -> None:
        slots, self._slots = self._slots, None
        if slots is not None:
            slots.release()


@dataclass(frozen=True)
class Follow:
    """Where a stream goes on: after this event of this job, in this slot."""

    job_id: str
    after: int
    slot: Slot


def frame(event: Event) -> bytes:
    """One event in the stream's format."""
    data = json.dumps(event_json(event), separators=(",", ":"))
    return f"id: {event.seq}\nevent: {event.kind}\ndata: {data}\n\n".encode()


def frames(found: Iterable[Event]) -> bytes:
    """Some events, one frame each."""
    return b"".join(map(frame, found))


def is_over(job: Job, found: list[Event]) -> bool:
    """Whether nothing can follow these events: the job has ended and this was its last page."""
    return job.state in TERMINAL and len(found) < PAGE


async def go_on(watch: Watch, start: Follow, times: StreamTimes) -> AsyncGenerator[bytes, None]:
    """The events after the beginning as they come, until the job ends, the stream is old or the server stops."""
    clock = asyncio.get_running_loop().time
    ends = clock() + times.longest
    beats = clock() + times.heartbeat
    reader = watch.open(start.job_id, start.after)
    try:
        while not reader.over and (now := clock()) < ends:
            page, full = await reader.page(min(beats, ends) - now)
            if page:
                yield frames(page)
            elif clock() >= beats:
                yield HEARTBEAT
            else:
                continue
            beats = clock() + times.heartbeat
            if full:
                watch.hurry()
    finally:
        watch.close(reader)
