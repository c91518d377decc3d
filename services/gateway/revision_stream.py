"""Streams that say when a page is no longer up to date: `id` is the revision, so a stream resumes
anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.gateway.stream_poller import Subscription
from shared.jobs.database import Database
from shared.jobs.revisions import Topic, read_revisions


def format_change(revision: str) -> bytes:
    """The event that says so."""
    return f"id: {revision}\nevent: changed\ndata: {revision}\n\n".encode()


class Changes(Subscription):
    """Waits until a topic has another revision than the one that was seen."""

    def __init__(self, topic: Topic, seen: str, key: str | None) -> None:
        super().__init__(key)
        self._topic, self._seen = topic, seen

    @classmethod
    def fetch(cls, db: Database, waiting: Sequence[Changes]) -> Mapping[Topic, str]:
        return read_revisions(db, {one.topic for one in waiting})

    @property
    def topic(self) -> Topic:
        return self._topic

    def accept(self, news: str | None) -> bool:
        if news is None or news == self._seen:
            return False
        self._seen = news
        return True

    def take(self) -> bytes:
        return b"" if self.is_over else format_change(self._seen)
