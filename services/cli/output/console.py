"""Terminal output: tables and messages for people, JSON for programs; exit statuses and usage
errors."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from services.client import Client

OK, FAILED, USAGE_ERROR, GATE_CROSSED, INTERRUPTED = 0, 1, 2, 3, 130

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_STATE_COLOURS = {
    "succeeded": "green",
    "failed": "red",
    "cancelled": "yellow",
    "running": "cyan",
    "stopping": "yellow",
    "checking": "cyan",
    "ready": "green",
    "rejected": "red",
}


class UsageError(Exception):
    """The user's input is invalid; the message says why."""


def make_client(retry_for_s: float = 3.0) -> Client:
    """A client of the configured gateway."""
    return Client(retry_for_s=retry_for_s)


def escape_unprintable(text: str, keep: str = "") -> str:
    """Make text of the gateway or a user safe to print: control, bidirectional and invisible
    characters are escaped (\\x1b, \\u202e), except those in `keep`, such as line breaks."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text
    )


def escape_markup(text: str, keep: str = "") -> str:
    """The same, with rich markup escaped too."""
    return escape(escape_unprintable(text, keep))


class _Console(Console):
    """Escapes unprintable characters even where a caller has not."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(escape_unprintable(text, keep="\n"), **options)


def stdout_console(width: int | None = None) -> Console:
    """Standard output. A pipe is wide enough never to cut an id."""
    columns = width if sys.stdout.isatty() or width else 240
    return _Console(width=columns, soft_wrap=True, highlight=False, emoji=False)


def stderr_console() -> Console:
    return _Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)


def print_note(text: str) -> None:
    """Print a message for people on standard error, so that programs can parse standard output."""
    stderr_console().print(escape_markup(text))


def print_json(value: Any) -> None:
    """Print one JSON value; characters that a terminal would interpret are escaped too."""
    text = json.dumps(value, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False)
    typer.echo("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text))


def print_path(path: Path) -> None:
    """Print a file's path: escaped on a terminal, as its bytes in a pipe."""
    typer.echo(escape_unprintable(str(path)) if sys.stdout.isatty() else path)


def colour_state(state: str) -> str:
    """A state in its colour."""
    colour = _STATE_COLOURS.get(state)
    return f"[{colour}]{state}[/]" if colour else escape_markup(state)


# of columns that may shrink
MIN_COLUMN_WIDTHS = {"message": 20, "summary": 30, "needs": 12, "default": 10, "type": 7}
_COLUMN_GAP = 2


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], wrap: bool = False) -> None:
    """Print rows under headings; the cells may contain rich markup.

    On a terminal, cells of a table that is too wide wrap: those of prose columns, or with `wrap` of
    all columns. Names and ids are never cut. In a pipe each row is one line.
    """
    is_terminal, available = sys.stdout.isatty(), stdout_console().width
    cells = [
        [Text.from_markup(escape_unprintable(cell, keep="\n"), emoji=False) for cell in column]
        for column in zip(columns, *rows, strict=True)
    ]
    natural = [max(text.cell_len for text in column) for column in cells]
    min_widths = [
        _find_min_width(column, wide, wrap) for column, wide in zip(cells, natural, strict=True)
    ]
    gaps = _COLUMN_GAP * (len(cells) - 1)
    widths = fit_widths(natural, min_widths, available - gaps)
    right_padding = _COLUMN_GAP - 1 if is_terminal else _COLUMN_GAP  # the box adds one space
    rendered = Table(
        box=SIMPLE_HEAD if is_terminal else None,
        show_edge=False,
        pad_edge=False,
        padding=(0, right_padding, 0, 0),
    )
    for column, width in zip(cells, widths, strict=True):
        one_line = not wrap and not is_terminal
        rendered.add_column(
            column[0], width=width, no_wrap=one_line, overflow="ellipsis" if one_line else "fold"
        )
    for row in zip(*(column[1:] for column in cells), strict=True):
        rendered.add_row(*row)
    # the terminal itself breaks lines that cannot be shorter
    stdout_console(max(available, sum(widths) + gaps)).print(rendered)


def _find_min_width(column: Sequence[Text], natural_width: int, wrap: bool) -> int:
    """The least width of a column."""
    if wrap:
        return max(len(word) for text in column for word in text.plain.split() or [""])
    return min(natural_width, MIN_COLUMN_WIDTHS.get(column[0].plain, natural_width))


def fit_widths(natural: Sequence[int], min_widths: Sequence[int], available: int) -> list[int]:
    """Shrink column widths to a sum of `available`, if possible, the widest column first."""
    widths = list(natural)
    while sum(widths) > available:
        shrinkable = [i for i, width in enumerate(widths) if width > min_widths[i]]
        if not shrinkable:
            break
        widths[max(shrinkable, key=lambda place: widths[place])] -= 1
    return widths


def print_pairs(values: Mapping[str, str]) -> None:
    """Print names and values, one per line; the values may contain rich markup."""
    width = max((len(name) for name in values), default=0)
    for name, value in values.items():
        for i, line in enumerate(value.splitlines()):
            stdout_console().print(f"{'' if i else name:<{width}}  {line}")


def format_age(when: str | None) -> str:
    """The time since `when`, in one unit."""
    if when is None:
        return "-"
    length = format_duration((datetime.now(UTC) - datetime.fromisoformat(when)).total_seconds())
    return " ".join(length.split()[:2])


def format_duration(seconds: float) -> str:
    """A duration in one or two units."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} days"


def format_size(count: int) -> str:
    """A number of bytes in a readable unit."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"
