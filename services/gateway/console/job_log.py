"""The log of a job: its events, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.gateway.console.words import format_count
from shared.jobs.records import Event

MAX_REASON_CHARS = 1000
STOPPED = "asked to stop"


@dataclass(frozen=True)
class Line:
    """A line of the log.

    at: seconds since 1970.
    kind: of its event.
    count: how many events in a row it stands for; of those it says what the last one did.
    """

    at: float
    kind: str
    text: str
    count: int = 1


def build_log(events: Sequence[Event]) -> list[Line]:
    """The lines, newest first. Progress that nothing interrupts is one line."""
    lines: list[Line] = []
    for event in events:
        line = Line(event.at, event.kind, _describe(event))
        if lines and event.kind == lines[-1].kind == "progress":
            line = Line(line.at, line.kind, line.text, lines.pop().count + 1)
        lines.append(line)
    return lines[::-1]


def _describe(event: Event) -> str:
    describe = _KINDS.get(event.kind)
    return event.kind if describe is None else describe(event.data)


def _describe_state(data: Mapping[str, Any]) -> str:
    reason = str(data.get("because", ""))[:MAX_REASON_CHARS]
    text = f"{data.get('from') or 'new'} → {data.get('to')}"
    return f"{text}: {reason}" if reason else text


def _describe_progress(data: Mapping[str, Any]) -> str:
    done, total = data.get("done"), data.get("total")
    words = []
    if isinstance(done, int | float):
        words.append(_format(done) + (f" / {_format(total)}" if total else ""))
    words += [
        f"{name.replace('_', ' ')} {_format(value)}"
        for name, value in data.items()
        if name not in ("done", "total") and isinstance(value, int | float)
    ]
    return ", ".join(words)


def _format(value: Any) -> str:
    if isinstance(value, int):
        return format_count(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


_KINDS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "state": _describe_state,
    "progress": _describe_progress,
    "checkpoint": lambda _: "checkpoint saved: another attempt goes on from here",
    "priority": lambda data: f"priority {data.get('from', '')} → {data.get('to', '')}",
    "cancel": lambda _: STOPPED,
}
