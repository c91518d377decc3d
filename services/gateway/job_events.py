"""The events of a job as server-sent events: `id` is the sequence number in SQL, so a stream
resumes anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from services.gateway.schemas import serialize_event
from services.gateway.stream_poller import Subscription
from shared.jobs.database import Database
from shared.jobs.records import Event, Job
from shared.jobs.states import TERMINAL
from shared.jobs.updates import JobUpdate, fetch_updates

PAGE_SIZE = 200  # events per read


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


class JobEvents(Subscription):
    """A position in one job's events."""

    def __init__(self, job_id: str, after: int, key: str | None) -> None:
        """From event `after` + 1 on."""
        super().__init__(key)
        self.job_id, self.after = job_id, after
        self._events: list[Event] = []

    @classmethod
    def fetch(cls, db: Database, waiting: Sequence[JobEvents]) -> Mapping[str, JobUpdate]:
        last_seqs: dict[str, int] = {}
        for one in waiting:
            last_seqs[one.job_id] = min(one.after, last_seqs.get(one.job_id, one.after))
        return fetch_updates(db, last_seqs, PAGE_SIZE)

    @property
    def topic(self) -> str:
        return self.job_id

    def accept(self, news: JobUpdate | None) -> bool:
        self._events = [e for e in news.events if e.seq > self.after] if news else []
        self.has_more = news is not None and len(news.events) == PAGE_SIZE
        if news is None or (news.state in TERMINAL and not self.has_more):
            self.is_over = True
        return bool(self._events)

    def take(self) -> bytes:
        events, self._events = self._events, []
        if events:
            self.after = events[-1].seq
        return format_events(events)
