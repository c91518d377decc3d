"""Pieces of Markdown that generated pages consist of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

MAX_LISTED = 24  # names of a longer list that a cell shows


def write_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are Markdown. Empty without a row."""
    body = [f"| {' | '.join(map(_write_cell, row))} |" for row in rows]
    if not body:
        return ""
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}", *body]
    return "\n".join(lines) + "\n"


def _write_cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|").strip()


def write_code(text: str) -> str:
    """Text as code on a line."""
    return f"`{text}`" if text else ""


def write_names(names: Sequence[str]) -> str:
    """Names as code, of a long list the first ones and how many there are."""
    shown = ", ".join(map(write_code, names[:MAX_LISTED]))
    return shown if len(names) <= MAX_LISTED else f"{shown} ... ({len(names)} in all)"


def write_block(text: str, language: str = "") -> str:
    """Text as a fenced block, whatever fences are in it."""
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}\n"


def escape_text(text: str) -> str:
    """Plain text, so that nothing in it is markup but `code`."""
    parts = re.split(r"(`[^`\n]+`)", text)
    parts[::2] = [re.sub(r"([\\*_<>\[\]`{}#])", r"\\\1", part) for part in parts[::2]]
    return "".join(parts)


def end_sentence(text: str) -> str:
    """The text with a full stop, and a capital letter if it begins with a word."""
    text = text.strip()
    if not text:
        return ""
    if re.match(r"[a-z]+([ ,;]|$)", text):
        text = text[0].upper() + text[1:]
    return text if text[-1] in ".!?" else f"{text}."


def format_number(value: float) -> str:
    """A bound or a default; 8,589,934,592 is easier to read than 8.58993e+09."""
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:g}"
