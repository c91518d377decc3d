"""How every process logs: one line an event on standard error; JSON unless a person is looking."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict


class _BestEffortStream:
    """A stream whose reader may be gone, or whose disk is full: a line that cannot be written must
    not be what fails the work that it tells of."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def configure_logging() -> None:
    """Call once, at the start of a process."""
    is_terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _shorten_digests,
            *(
                [_escape_control_characters, structlog.dev.ConsoleRenderer()]
                if is_terminal
                else [structlog.processors.JSONRenderer()]
            ),
        ],
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _BestEffortStream(sys.stderr))),
    )


_DIGEST = re.compile(r"(?<![0-9a-f])([0-9a-f]{12})[0-9a-f]{52}(?![0-9a-f])")


def _shorten_digests(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """The first 12 digits tell artifacts apart. A whole digest would outlive the data that it
    identifies: logs are not deleted with an upload."""
    return {
        name: _DIGEST.sub(r"\1…", value) if isinstance(value, str) else value
        for name, value in event.items()
    }


def _escape_control_characters(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """What a terminal would obey stands as \\x1b, \\u202e, as JSON has it anyway; only a traceback
    has lines."""
    return {
        name: value
        if not isinstance(value, str)
        else "".join(
            c
            if c.isprintable() or (c == "\n" and name == "exception")
            else c.encode("unicode_escape").decode()
            for c in value
        )
        for name, value in event.items()
    }
