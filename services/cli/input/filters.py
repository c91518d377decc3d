"""Filters of lists, as options: labels, and times."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from services.cli.output.console import UsageError

_AGO = re.compile(r"(\d{1,6})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_FORMS = "A time such as 2026-01-31T12:00, or an age such as 2h or 7d"

CreatedAfter = Annotated[
    str | None,
    typer.Option(metavar="TIME", help=f"Only those created at or after this time. {_FORMS}."),
]
CreatedBefore = Annotated[
    str | None, typer.Option(metavar="TIME", help="Only those created before this time.")
]
FinishedAfter = Annotated[
    str | None, typer.Option(metavar="TIME", help="Only those that ended at or after this time.")
]
LabelFilter = Annotated[
    str | None, typer.Option(metavar="KEY[=VALUE]", help="Only those with this label.")
]
AuditLabelFilter = Annotated[
    str | None,
    typer.Option("--label", metavar="KEY[=VALUE]", help="Only jobs of audits with this label."),
]


def parse_time(text: str | None, option: str) -> str | None:
    """An RFC 3339 time in UTC, of a time (local, unless it says its offset), a date, or how long
    ago: 30m, 2h, 7d. None stays None.

    Raises:
        UsageError: the text has another form.
    """
    if text is None:
        return None
    try:
        if ago := _AGO.fullmatch(text):
            time = datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        else:
            time = datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{option} {text!r}: expected a time such as 2026-01-31T12:00, or an age such "
            "as 2h or 7d"
        ) from None
    return time.isoformat().replace("+00:00", "Z")


def parse_times(
    created_after: str | None, created_before: str | None, finished_after: str | None
) -> dict[str, str | None]:
    """The filters by time that were given. Raises UsageError: see `parse_time`."""
    return {
        "created_after": parse_time(created_after, "--created-after"),
        "created_before": parse_time(created_before, "--created-before"),
        "finished_after": parse_time(finished_after, "--finished-after"),
    }
