"""The format of server-sent events, read line by line; it does no I/O."""

from __future__ import annotations

import json

from services.client.records import Event

RESUME_AFTER = 0.1  # seconds between the end of a stream and the next: nothing may make this a busy loop


class Reader:
    """Feed it lines; it hands out an event when one is complete, and remembers where to resume."""

    def __init__(self, after: int = 0) -> None:
        self.after = after
        self._data: list[str] = []

    def feed(self, line: str) -> Event | None:
        """One line without its end. Comments and names this client does not need are passed over."""
        if line:
            name, _, value = line.partition(":")
            if name == "data":
                self._data.append(value.removeprefix(" "))
            return None
        if not self._data:
            return None
        event = Event.of(json.loads("\n".join(self._data)))
        self._data.clear()
        self.after = event.seq
        return event

    def restart(self) -> None:
        """The connection broke: half an event is none."""
        self._data.clear()
