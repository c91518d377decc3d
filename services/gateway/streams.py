"""A job's events as server-sent events: `id` is the sequence number in SQL, so a stream resumes anywhere."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import structlog

from services.gateway.deps import StreamTimes
from services.gateway.views import event_json
from shared.errors import PalimpsestError
from shared.jobs import reads
from shared.jobs.database import Database
from shared.jobs.records import Event, Job
from shared.jobs.states import TERMINAL

log = structlog.get_logger()

PAGE = 200


class Slot:
    """One of the streams that may be open at once; given back once, whoever notices the end first."""

    def __init__(self, slots: threading.Semaphore) -> None:
        self._slots: threading.Semaphore | None = slots

    def free(self) -> None:
        slots, self._slots = self._slots, None
        if slots is not None:
            slots.release()


def frame(event: Event) -> bytes:
    """One event in the stream's format."""
    data = json.dumps(event_json(event), separators=(",", ":"))
    return f"id: {event.seq}\nevent: {event.kind}\ndata: {data}\n\n".encode()


def is_over(job: Job, found: list[Event]) -> bool:
    """Whether nothing can follow these events: the job has ended and this was its last page."""
    return job.state in TERMINAL and len(found) < PAGE


def stream(db: Database, tenant: str, job: Job, found: list[Event], after: int, times: StreamTimes) -> Iterator[bytes]:
    """The events found so far, then the others as they come, until the job ends or the stream is old.

    A job store that does not answer ends the stream: the reader resumes where it was.
    """
    yield b"retry: 2000\n\n"  # a reader whose stream ends comes back after 2 s
    started = spoke = time.monotonic()
    while True:
        for event in found:
            yield frame(event)
            after, spoke = event.seq, time.monotonic()
        if is_over(job, found):
            return
        now = time.monotonic()
        if now - started > times.longest:
            return
        if now - spoke > times.heartbeat:
            yield b": nothing new\n\n"
            spoke = now
        if len(found) < PAGE:
            time.sleep(times.poll)
        try:
            job, found = reads.events_after(db, tenant, job.id, after, PAGE)
        except PalimpsestError as error:
            log.warning("event stream ended", job=job.id, error=str(error))
            return
