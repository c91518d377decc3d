"""`migrate`: create or upgrade the schema; a SQLite file is copied first."""

from __future__ import annotations

import argparse
import sys

from services.admin._command import Subparsers, log_act, print_line, summarize_error
from shared.config import load_settings
from shared.errors import Conflict
from shared.jobs.database import Database
from shared.jobs.migrations import copy_before_migrating, migrate, require_current_schema


def add_parser(commands: Subparsers) -> None:
    parser = commands.add_parser("migrate", help=__doc__.partition(": ")[2])
    parser.set_defaults(run=run)


def run(_options: argparse.Namespace) -> int:
    settings = load_settings()
    try:
        db = Database(settings.database_url)
        if copied_to := copy_before_migrating(db):
            print_line(
                f"the job store was copied to {copied_to.name} in the same folder "
                "before the migration"
            )
        is_current = _is_current(db)
        migrate(db)
        if not is_current:
            with log_act(db, None, "migrate"):
                pass  # there was no log before
        db.close()
    except Exception as error:
        # whatever the driver or the URL parser says, the user needs one line of it
        reason = summarize_error(error)
        print_line(f"migrate: {reason}; check PALIMPSEST_DATABASE_URL", sys.stderr)
        return 1
    print_line("the job store's schema is up to date")
    return 0


def _is_current(db: Database) -> bool:
    try:
        require_current_schema(db)
    except Conflict:
        return False
    return True
