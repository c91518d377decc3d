"""`orphans`: list artifacts older than a day that the job store does not refer to, because attempts
were killed after storing them. --remove removes them; never use it if several job stores share the
artifact store."""

from __future__ import annotations

import argparse
import sys

from services.admin._command import Subparsers, log_act, open_store, print_line
from shared.artifacts import ArtifactStore
from shared.config import load_settings
from shared.jobs.orphans import list_orphans, remove_orphans


def add_parser(commands: Subparsers) -> None:
    parser = commands.add_parser("orphans", help=__doc__.partition(": ")[2])
    parser.add_argument("--remove", action="store_true", help="remove them permanently")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    settings = load_settings()
    with open_store(settings) as db:
        store = ArtifactStore.from_url(settings.artifacts_url)
        orphans = list(list_orphans(db, store))
        for one in orphans:
            print_line(f"{one.sha256} {one.size}")
        if options.remove:
            with log_act(db, None, "orphans remove"):
                remove_orphans(db, store, [one.sha256 for one in orphans])
    size = sum(one.size for one in orphans)
    what = "removed" if options.remove else "found; --remove removes them"
    print_line(f"{len(orphans):,} artifacts of {size:,} bytes {what}", sys.stderr)
    return 0
