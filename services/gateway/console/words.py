"""How pages write numbers, sizes and times."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from services.gateway.schemas import format_rfc3339

_DOUBLED = re.compile(r"^(?:\w+\.)*(\w+): \1\b")
_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def format_count(value: int | None) -> str:
    """`12,345`; a dash for None."""
    return "–" if value is None else f"{value:,}"


def format_measurement(value: object) -> str:
    """`0.0312`; a dash for what is no number, as a worker may write anything."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:.3g}" if is_number else "–"


def format_seconds(value: float | None) -> str:
    """`1 h 05 min`, `12 s`; a dash for None."""
    if value is None:
        return "–"
    seconds = max(0, round(value))
    if value < 1:
        return "under 1 s" if value > 0 else "0 s"
    for (unit, size), (smaller, small_size) in pairwise(_UNITS):
        if seconds >= size:
            rest = seconds % size // small_size
            return f"{seconds // size} {unit}" + (f" {rest:02} {smaller}" if rest else "")
    return f"{seconds} s"


def format_bytes(value: int | None) -> str:
    """`1.5 MiB`; a dash for None."""
    if value is None:
        return "–"
    size = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def format_rate(per_hour: float | None) -> str:
    """`120 / h`; a dash for None."""
    return "–" if per_hour is None else f"{per_hour:,.0f} / h"


def format_time(seconds: float | None) -> str:
    """Seconds since 1970 as `2026-11-30 07:04:11 UTC`; a dash for None."""
    if seconds is None:
        return "–"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def format_iso(seconds: float | None) -> str:
    """Seconds since 1970 as RFC 3339, for programs."""
    return format_rfc3339(seconds) or ""


def format_ago(seconds: float | None, now: float) -> str:
    """How long ago that was: `3 min ago`."""
    if seconds is None:
        return "–"
    age = now - seconds
    if age < 5:
        return "just now"
    for unit, size in _UNITS:
        if age >= size:
            return f"{int(age // size)} {unit} ago"
    return "just now"


def format_until(seconds: float | None, now: float) -> str:
    """In how long that is: `in 29 d`."""
    if seconds is None:
        return "never"
    left = seconds - now
    for unit, size in _UNITS:
        if left >= size:
            return f"in {int(left // size)} {unit}"
    return "now"


def format_shape(shape: Sequence[int]) -> str:
    """`3 × 32 × 32`."""
    return " × ".join(map(format_count, shape))


def pluralize(n: int, noun: str, plural: str | None = None) -> str:
    """`1 job`, `2 jobs`."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def format_failure(text: str) -> str:
    """A job's message without the name of a field that it begins with anyway: `ORIGINAL_WEIGHTS has
    ...` of `inputs.ORIGINAL_WEIGHTS: ORIGINAL_WEIGHTS has ...`."""
    return _DOUBLED.sub(r"\1", text, count=1)


FILTERS: Mapping[str, Callable[..., Any]] = {
    "count": format_count,
    "measurement": format_measurement,
    "seconds": format_seconds,
    "bytes": format_bytes,
    "rate": format_rate,
    "time": format_time,
    "ago": format_ago,
    "until": format_until,
    "shape": format_shape,
    "iso": format_iso,
    "plural": pluralize,
    "failure": format_failure,
}
