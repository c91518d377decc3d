"""`palimpsest-admin`: commands for operators. Run it with the settings of the service in its
environment."""

from __future__ import annotations

import argparse
import sys

from services.admin import (
    backup,
    database_roles,
    doctor,
    keys,
    log,
    migrate,
    orphans,
    signing_key,
    tenants,
)
from services.admin._command import print_line, summarize_error
from shared.errors import InvalidRequest, PalimpsestError

COMMANDS = (migrate, backup, doctor, tenants, keys, log, signing_key, orphans, database_roles)


def make_parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    parser = argparse.ArgumentParser(prog="palimpsest-admin", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Returns 0 if all is well, 1 if something failed, 2 for usage errors or invalid settings."""
    options = make_parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except InvalidRequest as error:
        print_line(f"{options.command}: {error}", sys.stderr)
        return 2
    except PalimpsestError as error:
        print_line(f"{options.command}: {summarize_error(error)}", sys.stderr)
        return 1
