"""services.client.sse."""

from __future__ import annotations

from services.client.records import Event
from services.client.sse import Reader

STREAM = [
    "retry: 2000", "",
    "id: 1", "event: state", 'data: {"seq":1,"at":"t","kind":"state","data":{"to":"queued"}}', "",
    ": nothing new", "",
    "id: 2", 'data: {"seq":2,"at":"t",', 'data:"kind":"progress","data":{}}', "",
    "", "",
    "id: 3", 'data: {"seq":3,"at"',
]  # fmt: skip


def test_events_are_read_whole_and_remembered():
    reader = Reader(after=0)
    found = [event for line in STREAM if (event := reader.feed(line))]
    assert found == [Event(1, "t", "state", {"to": "queued"}), Event(2, "t", "progress", {})]
    assert reader.after == 2
    reader.restart()
    assert reader.feed("") is None  # the half event is gone
    assert reader.after == 2
