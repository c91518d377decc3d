"""`backup FILE`: copy a SQLite job store, even while it is in use (PostgreSQL: pg_dump)."""

from __future__ import annotations

import argparse
import sqlite3
import sys
from pathlib import Path

from services.admin._command import Subparsers, log_act, open_store, print_line, summarize_error


def add_parser(commands: Subparsers) -> None:
    parser = commands.add_parser("backup", help=__doc__.partition(": ")[2])
    parser.add_argument("file", type=Path, help="where to write the copy")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    try:
        with open_store() as db, log_act(db, None, "backup"):
            db.copy_to(options.file)
    except (OSError, sqlite3.Error) as error:
        print_line(f"backup: {summarize_error(error)}", sys.stderr)
        return 1
    print_line(f"the job store was copied to {options.file.name}; now copy the artifacts")
    return 0
