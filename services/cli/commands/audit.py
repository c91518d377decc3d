"""audit: a grid of choices from a file, from options, or from a file that options override."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from services.audit_text import AuditText
from services.cli.commands.report import FailOn, show_outcome
from services.cli.commands.submit import WatchOption
from services.cli.input import audit_file, audit_flags
from services.cli.input.gates import check_metrics, parse_gates
from services.cli.output.console import (
    INTERRUPTED,
    OK,
    Json,
    UsageError,
    make_client,
    print_json,
    print_note,
)
from services.cli.output.dry_run import DryRunOption, WorkersOption, print_dry_run
from services.cli.output.progress import follow
from services.cli.signatures import list_parameters, make_command
from services.client import Audit, Client, Invalid


def _submit_audit(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", help="The audit as YAML. Options override values in the file."
        ),
    ] = None,
    dry_run: DryRunOption = False,
    workers: WorkersOption = None,
    watch: WatchOption = False,
    report: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Wait for the audit to end, then save its report here."),
    ] = None,
    fail_on: FailOn = None,
    json: Json = False,
    **flag_values: Any,
) -> None:
    parsed = audit_file.read_audit_file(file) if file else None
    flags = audit_flags.parse_flags(flag_values)
    spec = audit_flags.merge_flags(parsed.spec if parsed else {}, flags)
    if parsed is None and not spec:
        raise UsageError("give a file, or at least --dataset, --model, --unlearning and --attack")
    gates = parse_gates(fail_on or ())
    with make_client() as gateway:
        try:
            if dry_run:
                print_dry_run(gateway.dry_run(spec, workers=workers), json)
                return
            if gates:
                check_metrics(gates, _list_metrics(gateway))
            submitted = gateway.submit_audit(spec)
        except Invalid as error:
            raise UsageError("\n".join(_format_errors(error, parsed, flags))) from error
    wait = watch or report is not None or bool(gates)
    print_submitted(submitted, wait, json)
    if wait:
        status = follow([submitted.id], json)
        if status != INTERRUPTED:
            status = show_outcome(submitted.id, gates, report, json, failed=status != OK)
        raise typer.Exit(status)


audit = make_command(
    _submit_audit,
    "audit",
    "Submit an audit: a grid of unlearning methods, defenses and attacks. Identical jobs run once.",
    [
        *list_parameters(_submit_audit)[:1],
        *(flag.to_parameter() for flag in audit_flags.FLAGS),
        *list_parameters(_submit_audit)[1:],
    ],
)


def _list_metrics(gateway: Client) -> list[str]:
    return [entry["name"] for entry in gateway.get_catalog("metric")["kinds"].get("metric", ())]


def print_submitted(submitted: Audit, waits: bool, json: bool) -> None:
    """Print an audit that was submitted, and how to follow it if this command does not wait."""
    if json and not waits:
        print_json(submitted.raw)
    elif not json:
        typer.echo(submitted.id)
        print_note(
            f"{submitted.total} jobs: {len(submitted.created)} new, "
            f"{submitted.total - len(submitted.created)} reused"
        )
        if not waits:
            print_note(f"To follow it: palimpsest watch {submitted.id}")


def _format_errors(
    error: Invalid, parsed: AuditText | None, flags: Mapping[str, Any]
) -> Iterable[str]:
    """One message per error of the gateway, with its line if the value came from the file."""
    for field_error in error.errors or [{"field": "", "message": error.detail}]:
        field = field_error.get("field", "")
        message = audit_flags.explain_error(field, field_error.get("message", ""))
        if parsed is not None and not audit_flags.is_from_flag(field, flags):
            yield parsed.format_error(field, message)
        else:
            yield message if not field or message.startswith(field) else f"{field}: {message}"
