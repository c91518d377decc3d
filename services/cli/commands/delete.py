"""delete: an audit, for good."""

from __future__ import annotations

from typing import Annotated

import typer

from services.cli.commands.uploads import Yes, confirm_erasure, show_erasure
from services.cli.completion import complete_audits
from services.cli.output.console import Json, make_client, print_json, print_note


def delete(
    audits: Annotated[
        list[str],
        typer.Argument(metavar="AUDIT...", help="Audits.", autocompletion=complete_audits),
    ],
    cancel: Annotated[
        bool,
        typer.Option(
            "--cancel",
            help="First cancel audits that are running; they are deleted once their jobs have "
            "ended.",
        ),
    ] = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Permanently delete audits, with the jobs and artifacts that nothing else needs."""
    with make_client() as gateway:
        for audit in [gateway.get_audit(audit_id) for audit_id in audits]:
            print_note(f"audit {audit.id}: {audit.name}")
        confirm_erasure(yes)
        erased = [(audit_id, gateway.delete_audit(audit_id, cancel=cancel)) for audit_id in audits]
    if json:
        print_json([{"audit": audit_id, **dict(one.raw)} for audit_id, one in erased])
        return
    for audit_id, one in erased:
        show_erasure(audit_id, one)
