"""How things are shown: tables and sentences for a person, JSON for a program, and how a command ends."""

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

OK, FAILED, USAGE, GATE, INTERRUPTED = 0, 1, 2, 3, 130

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_COLOURS = {"succeeded": "green", "failed": "red", "cancelled": "yellow", "running": "cyan", "stopping": "yellow"}


class WrongUse(Exception):
    """What the user typed cannot be right; the text says why."""


def client(retry_for_s: float = 3.0) -> Client:
    """The client of the gateway that is known here."""
    return Client(retry_for_s=retry_for_s)


def make_visible(text: str, keep: str = "") -> str:
    """Text of the gateway or of a user as a terminal may show it: characters that move the cursor, that turn the
    direction of writing or that are not seen stand as \\x1b, \\u202e; those in `keep`, such as a line break, stay."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def to_markup(text: str, keep: str = "") -> str:
    """Such text for rich, which reads no markup in it."""
    return escape(make_visible(text, keep))


class _Console(Console):
    """Prints nothing that is not visible, whoever forgot to make it so."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(make_visible(text, keep="\n"), **options)


def console(width: int | None = None) -> Console:
    """Standard output. A pipe is as wide as it takes: an id that is cut is no id."""
    room = width if sys.stdout.isatty() or width else 240
    return _Console(width=room, soft_wrap=True, highlight=False, emoji=False)


def errors() -> Console:
    return _Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)


def say(text: str) -> None:
    """A sentence for a person, next to the result, so not in the way of a program that reads it."""
    errors().print(to_markup(text))


def as_json(value: Any) -> None:
    """One JSON value on one or more lines. What JSON leaves as it is and a terminal would obey is escaped too."""
    text = json.dumps(value, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False)
    typer.echo("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text))


def print_path(path: Path) -> None:
    """The path of a file that was made; a program gets its very bytes."""
    typer.echo(make_visible(str(path)) if sys.stdout.isatty() else path)


def coloured(state: str) -> str:
    """A state in its colour."""
    colour = _COLOURS.get(state)
    return f"[{colour}]{state}[/]" if colour else to_markup(state)


SHRINKS = {"message": 20, "summary": 30, "needs": 12, "default": 10, "type": 7}  # columns, and to how little
_BETWEEN = 2


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], wrap: bool = False) -> None:
    """Rows under headings; the cells may hold rich markup.

    On a terminal what is too wide goes on below, in columns of prose or with `wrap` in all; names and ids stay
    whole. In a pipe a row is a line.
    """
    terminal, room = sys.stdout.isatty(), console().width
    cells = [
        [Text.from_markup(make_visible(cell, keep="\n"), emoji=False) for cell in column]
        for column in zip(columns, *rows, strict=True)
    ]
    natural = [max(text.cell_len for text in column) for column in cells]
    least = [_least(column, wide, wrap) for column, wide in zip(cells, natural, strict=True)]
    gaps = _BETWEEN * (len(cells) - 1)
    widths = fit(natural, least, room - gaps)
    right = _BETWEEN - 1 if terminal else _BETWEEN  # the box has a blank of its own
    made = Table(box=SIMPLE_HEAD if terminal else None, show_edge=False, pad_edge=False, padding=(0, right, 0, 0))
    for column, width in zip(cells, widths, strict=True):
        one_line = not wrap and not terminal
        made.add_column(column[0], width=width, no_wrap=one_line, overflow="ellipsis" if one_line else "fold")
    for row in zip(*(column[1:] for column in cells), strict=True):
        made.add_row(*row)
    console(max(room, sum(widths) + gaps)).print(made)  # the terminal itself breaks lines that cannot be shorter


def _least(column: Sequence[Text], wide: int, wrap: bool) -> int:
    """How narrow a column may become."""
    if wrap:
        return max(len(word) for text in column for word in text.plain.split() or [""])
    return min(wide, SHRINKS.get(column[0].plain, wide))


def fit(natural: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Widths of columns that need `room` together, if that is possible; the widest give way first."""
    widths = list(natural)
    while sum(widths) > room:
        able = [place for place, width in enumerate(widths) if width > least[place]]
        if not able:
            break
        widths[max(able, key=lambda place: widths[place])] -= 1
    return widths


def pairs(values: Mapping[str, str]) -> None:
    """Names and values, one a line; the values may hold rich markup."""
    width = max((len(name) for name in values), default=0)
    for name, value in values.items():
        for place, line in enumerate(value.splitlines()):
            console().print(f"{'' if place else name:<{width}}  {line}")


def age(when: str | None) -> str:
    """How long ago, in one unit."""
    if when is None:
        return "-"
    length = span((datetime.now(UTC) - datetime.fromisoformat(when)).total_seconds())
    return " ".join(length.split()[:2])


def span(seconds: float) -> str:
    """A length of time in one or two units."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} days"


def size(count: int) -> str:
    """Bytes, readable."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"
