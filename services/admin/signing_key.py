"""`signing-key create|show FILE`: make the Ed25519 key that signs reports (the private one in FILE,
the public one in FILE.pub), or print its public key and its id."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from services import signing
from services.admin._command import Subparsers, print_line, summarize_error
from shared.errors import PalimpsestError


def add_parser(commands: Subparsers) -> None:
    parser = commands.add_parser("signing-key", help=__doc__.partition(": ")[2])
    parser.add_argument("action", choices=["create", "show"])
    parser.add_argument("file", type=Path, help="the private key")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """It needs no settings: the machine that makes a key need not run anything else."""
    action, path = options.action, options.file
    try:
        key = signing.create_key(path) if action == "create" else signing.load_key(path)
    except (PalimpsestError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else summarize_error(error)
        print_line(f"signing-key {action}: {reason}", sys.stderr)
        return 1
    print_line(key.public_pem.strip())
    print_line(f"key id {key.key_id}", sys.stderr)
    if action == "create":
        print_line(
            f"the private key is in {path.name}: set PALIMPSEST_SIGNING_KEY to it for the gateway "
            f"only, and keep a copy; the public key is in {path.name}{signing.PUBLIC_SUFFIX}: hand "
            "it to everyone who verifies reports",
            sys.stderr,
        )
    return 0
