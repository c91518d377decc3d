"""Parsing of events from frames of server-sent events."""

from __future__ import annotations

from httpx_sse import ServerSentEvent

from .records import Event

RESUME_PAUSE_S = 0.1  # between two streams, so that resuming is never a busy loop


def parse_event(frame: ServerSentEvent) -> Event | None:
    """The event of one frame; None for a frame without data, such as a heartbeat.

    Raises:
        ValueError: it is not an event of a gateway.
    """
    if not frame.data:
        return None
    try:
        event = Event.from_json(frame.json())
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("not an event") from error
    if not isinstance(event.seq, int):
        raise ValueError("not an event: seq is not an integer")
    return event
