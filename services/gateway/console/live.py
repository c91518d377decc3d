"""/live: the event streams that pages follow. They say that something has changed; the page then
asks for itself again."""

from __future__ import annotations

from flask import Response, request

from services.gateway.console._pages import make_pages
from services.gateway.deps import current_gateway
from services.gateway.event_streams import respond_stream
from services.gateway.principal import current_principal
from services.gateway.queue_reading import choose_tenant
from services.gateway.revision_stream import Changes, format_change
from shared.jobs import monitoring
from shared.jobs.revisions import Topic, read_revisions

pages = make_pages("live")

MAX_REVISION_CHARS = 32


def find_revision(topic: Topic) -> str:
    """The revision to put in a page, which its stream goes on from."""
    return read_revisions(current_gateway().deps.db, [topic])[topic]


def read_now() -> float:
    """Seconds since 1970 by the clock that all times of jobs are of."""
    return monitoring.read_clock(current_gateway().deps.db)


def respond_changes(topic: Topic) -> Response:
    """The stream of a topic's changes since the revision that the client has seen."""
    seen = request.headers.get("Last-Event-ID") or request.args.get("seen", "")
    now = find_revision(topic)
    beginning = b"" if seen[:MAX_REVISION_CHARS] == now else format_change(now)
    return respond_stream(beginning, Changes(topic, now, current_principal().key))


@pages.get("/live")
def follow_all() -> Response:
    """Changes of your jobs, or with the scope `admin` of all jobs, and of the workers."""
    return respond_changes(Topic(choose_tenant()))
