"""services.client.events: frames of httpx-sse as events of a job."""

from __future__ import annotations

import httpx
import pytest
from httpx_sse import EventSource, ServerSentEvent

from services.client.events import parse_event
from services.client.records import Event

STREAM = [
    "retry: 2000", "",
    "id: 1", "event: state", 'data: {"seq":1,"at":"t","kind":"state","data":{"to":"queued"}}', "",
    ": nothing new", "",
    "id: 2", 'data: {"seq":2,"at":"t",', 'data:"kind":"progress","data":{}}', "",
    "", "",
    "id: 3", 'data: {"seq":3,"at"',
]  # fmt: skip


def test_events_are_read_whole_and_heartbeats_passed_over():
    headers = {"Content-Type": "text/event-stream"}
    frames = EventSource(httpx.Response(200, headers=headers, text="\n".join(STREAM))).iter_sse()
    events = [event for frame in frames if (event := parse_event(frame))]
    assert events == [Event(1, "t", "state", {"to": "queued"}), Event(2, "t", "progress", {})]


@pytest.mark.parametrize(
    "data", ["x", "[]", "7", "{}", '{"seq": "1\\r\\nX: y", "at": "t", "kind": "k"}', "[" * 10**5]
)
def test_what_is_no_event_is_refused(data):
    with pytest.raises(ValueError, match=r"."):
        parse_event(ServerSentEvent(data=data))
