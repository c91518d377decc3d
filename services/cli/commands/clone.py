"""clone: an audit again, with edits. label: labels and metadata of an audit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from services.cli import completion
from services.cli.commands.audit import print_submitted
from services.cli.commands.submit import WatchOption
from services.cli.input.edits import edit_spec
from services.cli.output.annotations import format_annotations
from services.cli.output.console import (
    Json,
    UsageError,
    make_client,
    print_json,
    print_pairs,
)
from services.cli.output.dry_run import DryRunOption, WorkersOption, print_dry_run
from services.cli.output.progress import follow
from services.values import parse_value

AuditId = Annotated[
    str,
    typer.Argument(metavar="AUDIT", help="An audit.", autocompletion=completion.complete_audits),
]


def clone(
    audit: AuditId,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="PATH=VALUE",
            help="Set a value, such as seeds=[1,2] or attacks.0.params.iterations=200; may be "
            "repeated.",
        ),
    ] = None,
    removals: Annotated[
        list[str] | None,
        typer.Option(
            "--unset",
            metavar="PATH",
            help="Remove a value, so that its default applies; may be repeated.",
        ),
    ] = None,
    dry_run: DryRunOption = False,
    workers: WorkersOption = None,
    watch: WatchOption = False,
    json: Json = False,
) -> None:
    """Submit an audit again, with edits. Jobs that are the same are reused."""
    with make_client() as gateway:
        spec = edit_spec(gateway.get_spec(audit), assignments or (), removals or ())
        if dry_run:
            print_dry_run(gateway.dry_run(spec, workers=workers), json)
            return
        submitted = gateway.submit_audit(spec)
    print_submitted(submitted, watch, json)
    if watch:
        raise typer.Exit(follow([submitted.id], json))


def label(
    audit: AuditId,
    changes: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE|KEY-...", help="Labels to set; KEY- removes one."),
    ] = None,
    metadata: Annotated[
        str | None,
        typer.Option(
            metavar="JSON",
            help="An object whose keys are merged into the metadata; null removes a key.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Change labels and metadata of an audit. Without changes, show them."""
    patch = None if metadata is None else parse_value(metadata)
    if not isinstance(patch, dict | None):
        raise UsageError(f"--metadata {metadata!r}: expected a JSON object")
    labels = _parse_changes(changes or ())
    with make_client() as gateway:
        if labels or patch is not None:
            shown = gateway.annotate_audit(audit, labels=labels or None, metadata=patch)
        else:
            shown = gateway.get_audit(audit)
    if json:
        print_json({"labels": shown.labels, "metadata": shown.metadata})
    else:
        print_pairs(format_annotations(shown))


def _parse_changes(words: Iterable[str]) -> dict[str, str | None]:
    labels: dict[str, str | None] = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign and word.endswith("-"):
            key = word[:-1]
        elif not sign:
            raise UsageError(f"{word!r}: expected KEY=VALUE, or KEY- to remove a label")
        if not key or key in labels:
            raise UsageError(f"{word!r}: expected KEY=VALUE or KEY-, each key once")
        labels[key] = value if sign else None
    return labels
