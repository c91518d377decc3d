"""audit: a grid of choices from a file, from flags, or from a file with flags over it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli import auditfiles, grids
from services.cli.auditfiles import AuditFile
from services.cli.commands import command, parameters
from services.cli.following import follow
from services.cli.gates import check_metrics, gates
from services.cli.output import (
    INTERRUPTED,
    OK,
    Json,
    WrongUse,
    as_json,
    client,
    coloured,
    console,
    say,
    table,
    to_markup,
)
from services.cli.reporting import FailOn, conclude
from services.cli.submitting import Watch
from services.client import Audit, Client, DryRun, Invalid


def _audit(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="The audit as YAML. Flags go before what it says.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would come to, and store nothing.")] = False,
    watch: Watch = False,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Follow it to its end, then save its report here.")
    ] = None,
    fail_on: FailOn = None,
    json: Json = False,
    **given: Any,
) -> None:
    read = auditfiles.read(file) if file else None
    flags = grids.from_flags(given)
    spec = grids.merged(read.spec if read else {}, flags)
    if read is None and not spec:
        raise WrongUse("name a file, or at least --dataset, --model, --unlearning and --attack")
    drawn = gates(fail_on or ())
    with client() as gateway:
        try:
            if dry_run:
                _show_dry_run(gateway.dry_run(spec), json)
                return
            if drawn:
                check_metrics(drawn, _metrics(gateway))
            made = gateway.submit_audit(spec)
        except Invalid as error:
            raise WrongUse("\n".join(_complaints(error, read, flags))) from error
    to_the_end = watch or report is not None or bool(drawn)
    _say_submitted(made, to_the_end, json)
    if to_the_end:
        status = follow([made.id], json)
        if status != INTERRUPTED:
            status = conclude(made.id, drawn, report, json, failed=status != OK)
        raise typer.Exit(status)


audit = command(
    _audit,
    "audit",
    "Submit an audit: one grid of choices, every job it needs made once.",
    [*parameters(_audit)[:1], *(flag.parameter() for flag in grids.FLAGS), *parameters(_audit)[1:]],
)


def _metrics(gateway: Client) -> list[str]:
    return [entry["name"] for entry in gateway.get_catalog("metric")["kinds"].get("metric", ())]


def _say_submitted(made: Audit, followed: bool, json: bool) -> None:
    if json and not followed:
        as_json(made.raw)
    elif not json:
        typer.echo(made.id)
        say(f"{made.total} jobs, {made.total - len(made.created)} of them there already")
        if not followed:
            say(f"follow it with: palimpsest watch {made.id}")


def _complaints(error: Invalid, read: AuditFile | None, flags: Mapping[str, Any]) -> Iterable[str]:
    """What the gateway found wrong, each where it was written."""
    for wrong in error.errors or [{"field": "", "message": error.detail}]:
        field = wrong.get("field", "")
        message = grids.taught(field, wrong.get("message", ""))
        if read is not None and not grids.is_of_a_flag(field, flags):
            yield read.complain(field, message)
        else:
            yield message if not field or message.startswith(field) else f"{field}: {message}"


def _show_dry_run(found: DryRun, json: bool) -> None:
    if json:
        as_json(found.raw)
        return
    rows = [
        [
            job["stage"],
            job["method"] or "-",
            str(job["seed"]),
            f"{job['reused']} {coloured(job['state'])}" if job["reused"] else "new",
        ]
        for job in found.jobs
    ]
    table(["stage", "method", "seed", "job"], rows)
    console().print(f"{found.total} jobs: {found.reused} are there already, {found.new} would be new")
    for cost in found.costs:
        console().print(to_markup(cost))
