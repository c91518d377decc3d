"""`log`: show the access log, newest first: who changed what, or tried to."""

from __future__ import annotations

import argparse

from services.admin._command import (
    Subparsers,
    add_json_option,
    open_store,
    print_json,
    print_table,
)
from services.gateway.access_schemas import serialize_entry
from shared.jobs import access_log

MAX_ENTRIES = 10_000


def add_parser(commands: Subparsers) -> None:
    parser = commands.add_parser("log", help=__doc__.partition(": ")[2])
    parser.add_argument("--tenant", help="only entries about this tenant")
    parser.add_argument(
        "--limit",
        type=_parse_limit,
        default=100,
        metavar="N",
        help=f"number of entries, up to {MAX_ENTRIES} (default: 100)",
    )
    parser.set_defaults(run=run)
    add_json_option(parser)


def run(options: argparse.Namespace) -> int:
    with open_store() as db:
        entries = access_log.list_entries(db, tenant=options.tenant, limit=options.limit).items
    views = [serialize_entry(entry) for entry in entries]
    if options.json:
        print_json(views)
    else:
        print_table(list(views[0]) if views else ["at"], [list(v.values()) for v in views])
    return 0


def _parse_limit(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= MAX_ENTRIES:
        raise argparse.ArgumentTypeError(f"give a number from 1 to {MAX_ENTRIES}")
    return int(text)
