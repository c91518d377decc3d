"""verify: check that a saved report is as the holder of a key signed it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.cli.output.console import (
    FAILED,
    Json,
    escape_markup,
    print_json,
    print_note,
    stdout_console,
)
from services.client import ClientError
from services.client.verification import (
    NotVerified,
    VerifiedReport,
    load_public_key,
    verify_report,
)


def verify(
    report: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="The folder that `palimpsest report` saved, or one of the files in it.",
        ),
    ],
    key: Annotated[
        Path,
        typer.Option(
            "--key",
            metavar="FILE",
            help="The signer's public key (PEM). Get it from the operator, never with the report.",
        ),
    ],
    json: Json = False,
) -> None:
    """Verify the signature and the files of a saved report; exit with status 1 if anything was
    changed. Needs no gateway."""
    try:
        verified = verify_report(report, load_public_key(key))
    except ClientError as error:
        if json:
            print_json({"verified": False, "reason": str(error)})
        print_note(f"palimpsest: {'not verified: ' * isinstance(error, NotVerified)}{error}")
        raise typer.Exit(FAILED) from None
    if json:
        print_json(_to_json(verified))
    else:
        for line in _describe(verified):
            stdout_console().print(escape_markup(line))


def _to_json(verified: VerifiedReport) -> dict[str, object]:
    return {
        "verified": True,
        "audit": verified.audit["id"],
        "name": verified.audit.get("name"),
        "submitted_at": verified.audit.get("submitted_at"),
        "finished_at": verified.finished_at,
        "key_id": verified.key_id,
        "files": dict(verified.files),
    }


def _describe(verified: VerifiedReport) -> list[str]:
    audit = verified.audit
    return [
        f"verified: {' and '.join(verified.files)} are unchanged since they were signed"
        if len(verified.files) > 1
        else f"verified: {next(iter(verified.files))} is unchanged since it was signed",
        f"audit      {audit['id']} ({audit.get('name')}), submitted {audit.get('submitted_at')}",
        f"report     made {verified.finished_at}",
        f"signed by  the holder of key {verified.key_id}",
    ]
