"""How things are shown: tables and sentences for a person, JSON for a program, and how a command ends."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from services.client import Client

OK, FAILED, USAGE, GATE, INTERRUPTED = 0, 1, 2, 3, 130

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_COLOURS = {"succeeded": "green", "failed": "red", "cancelled": "yellow", "running": "cyan", "stopping": "yellow"}


class WrongUse(Exception):
    """What the user typed cannot be right; the text says why."""


def client(patience: float = 3.0) -> Client:
    """The client of the gateway that is known here."""
    return Client(patience=patience)


def console() -> Console:
    """Standard output. A pipe is as wide as it takes: an id that is cut is no id."""
    return Console(width=None if sys.stdout.isatty() else 240, soft_wrap=True, highlight=False)


def errors() -> Console:
    return Console(stderr=True, soft_wrap=True, highlight=False)


def say(text: str) -> None:
    """A sentence for a person, next to the result, so not in the way of a program that reads it."""
    errors().print(escape(text))


def as_json(value: Any) -> None:
    """One JSON value on one or more lines."""
    typer.echo(json.dumps(value, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False))


def coloured(state: str) -> str:
    """A state in its colour."""
    colour = _COLOURS.get(state)
    return f"[{colour}]{state}[/]" if colour else state


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], wrap: bool = False) -> None:
    """Rows under headings; the cells may hold rich markup. What is too wide is cut, or with `wrap` goes on below."""
    made = Table(*columns, box=SIMPLE_HEAD if sys.stdout.isatty() else None, pad_edge=False)
    for column in made.columns:
        column.no_wrap = not wrap
        column.overflow = "ellipsis" if column.header in ("message", "summary") else "fold"
    for row in rows:
        made.add_row(*row)
    console().print(made)


def pairs(values: Mapping[str, str]) -> None:
    """Names and values, one a line; the values may hold rich markup."""
    width = max((len(name) for name in values), default=0)
    for name, value in values.items():
        console().print(f"{name:<{width}}  {value}")


def age(when: str | None) -> str:
    """How long ago, in one unit."""
    if when is None:
        return "-"
    return span((datetime.now(UTC) - datetime.fromisoformat(when)).total_seconds())


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
