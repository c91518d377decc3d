"""report: save an audit's report, show its verdict, check thresholds."""

from __future__ import annotations

import json as jsonlib
import sys
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli.completion import complete_audits
from services.cli.input.gates import Gate, find_crossings, find_unmeasured, parse_gates
from services.cli.output import verdict
from services.cli.output.console import (
    FAILED,
    GATE_CROSSED,
    OK,
    Json,
    UsageError,
    make_client,
    print_note,
    print_path,
)
from services.client import ClientError, NoReport, Report

FailOn = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-on",
        metavar="THRESHOLD",
        help=(
            "Exit with status 3 if a row of the report exceeds this threshold, such as "
            "'psnr.gain>6': METRIC[.FIELD] OP NUMBER, where FIELD defaults to mean; may be "
            "repeated."
        ),
    ),
]


def report(
    item: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="An audit or a report job.", autocompletion=complete_audits
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Folder to save it in. Default: report-ID."
        ),
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    fail_on: FailOn = None,
    json: Json = False,
) -> None:
    """Save an audit's report and show its verdict; with --json print report.json."""
    gates = parse_gates(fail_on or ())
    is_saved = output is not None or open_ or not json
    with make_client() as gateway:
        loaded = gateway.get_report(item, with_manifest=is_saved)
    if not json:
        verdict.print_report(loaded)
        if is_saved and loaded.html is None:
            print_note(
                "The HTML report has expired with its pictures; report.json has all figures."
            )
    elif not gates:
        sys.stdout.buffer.write(loaded.json)
    if is_saved:
        paths = loaded.save(output or Path(f"report-{item}"))
        for path in paths:
            print_note(str(path)) if json else print_path(path)
        if open_:
            pages = [path for path in paths if path.suffix == ".html"]
            webbrowser.open((pages or paths)[0].resolve().as_uri())
    if gates:
        raise typer.Exit(check_gates(loaded, gates, json, failed=False))


def show_outcome(
    item: str,
    gates: Sequence[Gate] = (),
    output: Path | None = None,
    json: bool = False,
    failed: bool = False,
) -> int:
    """Show the outcome of an audit that has ended; returns the exit status."""
    with make_client() as gateway:
        try:
            loaded = gateway.get_report(item, with_manifest=output is not None)
        except ClientError as error:
            is_required = bool(gates or output)
            if is_required or not isinstance(error, NoReport):
                print_note(f"palimpsest: {error}")
            return FAILED if failed or is_required else OK
    if not json:
        verdict.print_report(loaded)
    if output is not None:
        for path in loaded.save(output):
            print_note(f"saved {path}")
    elif not json:
        print_note(f"To save it: palimpsest report {item}")
    return check_gates(loaded, gates, json, failed)


def check_gates(loaded: Report, gates: Sequence[Gate], json: bool, failed: bool) -> int:
    """Print every row that exceeds a threshold or has no value for it; returns the exit status.

    An incomplete audit never passes. A row without a value does not pass either, but an exceeded
    threshold decides the status.

    Raises:
        UsageError: no row has a gate's metric and field.
    """
    incomplete = failed or bool(gates and loaded.missing)
    crossed = []
    # the rows that have it may be the missing ones
    with suppress(*[UsageError] if incomplete else []):
        crossed = find_crossings(gates, loaded.rows)
    for crossing in crossed:
        _print_result({"exceeded": crossing.to_json()}, f"threshold exceeded: {crossing}", json)
    unmeasured = find_unmeasured(gates, loaded.rows)
    for row in unmeasured:
        _print_result(
            {"unmeasured": row.to_json()}, f"palimpsest: {row}, so the audit does not pass", json
        )
    if gates and not crossed and not unmeasured and not incomplete:
        _print_result(
            {"exceeded": None}, f"no row exceeds {' or '.join(g.text for g in gates)}", json
        )
    if gates and loaded.missing:
        count = len(loaded.missing)
        rows = "1 row is" if count == 1 else f"{count} rows are"
        print_note(f"palimpsest: {rows} missing: the audit does not pass")
    if crossed and not incomplete:
        return GATE_CROSSED
    return FAILED if incomplete or unmeasured else OK


def _print_result(value: Any, sentence: str, json: bool) -> None:
    if json:
        typer.echo(jsonlib.dumps(value))
    else:
        print_note(sentence)
