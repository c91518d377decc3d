"""Events out of frames of server-sent events."""

from __future__ import annotations

from httpx_sse import ServerSentEvent

from .records import Event

RESUME_PAUSE_S = 0.1  # between the end of a stream and the next: nothing may make this a busy loop


def parse_event(frame: ServerSentEvent) -> Event | None:
    """The event of one frame; None for a frame without data, such as a heartbeat.

    Raises:
        ValueError: it is no event of a gateway.
    """
    if not frame.data:
        return None
    try:
        event = Event.from_json(frame.json())
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("no event") from error
    if not isinstance(event.seq, int):
        raise ValueError("no event: seq is no whole number")
    return event
