"""How every process logs: one line an event on standard error; JSON unless a person is looking."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict


class _Unfailing:
    """A stream whose reader may be gone, or whose disk is full: a line that cannot be written must not be what fails
    the work that it tells of."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def setup() -> None:
    """Call once, at the start of a process."""
    person = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            *([_make_visible, structlog.dev.ConsoleRenderer()] if person else [structlog.processors.JSONRenderer()]),
        ],
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Unfailing(sys.stderr))),
    )


def _make_visible(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """What a terminal would obey stands as \\x1b, \\u202e, as JSON has it anyway; only a traceback has lines."""
    return {
        name: value if not isinstance(value, str) else "".join(
            c if c.isprintable() or (c == "\n" and name == "exception") else c.encode("unicode_escape").decode()
            for c in value
        )
        for name, value in event.items()
    }  # fmt: skip
