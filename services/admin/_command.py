"""What the commands share: output, the job store, and the log of what they do."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

from services.gateway.credentials import get_token
from shared.config import Settings, load_settings
from shared.errors import PalimpsestError
from shared.jobs import access_log
from shared.jobs.database import Database
from shared.jobs.migrations import require_current_schema

if TYPE_CHECKING:
    # generic in the stubs only
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Subparsers = Any


@contextmanager
def open_store(settings: Settings | None = None) -> Iterator[Database]:
    """The job store of the environment's settings, closed at the end.

    Raises:
        Conflict: its schema is not the one that this code needs.
        TransientError: it does not answer.
    """
    db = Database((settings or load_settings()).database_url)
    try:
        require_current_schema(db)
        yield db
    finally:
        db.close()


@contextmanager
def log_act(
    db: Database, tenant: str | None, action: str, subject: str = ""
) -> Iterator[list[str]]:
    """Note in the access log what is done inside, and whether it failed (status 1). A subject that
    is known only inside is appended to the list."""
    entry = access_log.begin_entry(db, tenant, access_log.COMMAND_LINE_ACTOR, action, subject)
    subjects: list[str] = []
    try:
        yield subjects
    except BaseException:  # a full disk or Ctrl-C too: only who is killed leaves no status
        with suppress(PalimpsestError):
            access_log.finish_entry(db, entry, 1)
        raise
    access_log.finish_entry(db, entry, 0, subjects[0] if subjects else None)


def has_token(settings: Settings) -> bool:
    """Whether the gateway has a token besides the keys."""
    return bool(get_token(settings))


def add_json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def print_json(value: Any) -> None:
    print_line(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns as wide as their widest cell; an empty cell is shown as -."""
    cells = [[str(cell) if cell not in (None, "") else "-" for cell in row] for row in rows]
    table = [list(header), *cells]
    widths = [max(len(row[n]) for row in table) for n in range(len(header))]
    for row in table:
        print_line("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip())


def summarize_error(error: Exception) -> str:
    """One line of it."""
    text = str(error) if isinstance(error, PalimpsestError) else f"{type(error).__name__}: {error}"
    return text.strip().partition("\n")[0]


def print_line(text: str, stream: TextIO | None = None) -> None:
    print(text, file=stream or sys.stdout)
