"""report: save what leaked, show it, and hold it against gates."""

from __future__ import annotations

import json as jsonlib
import sys
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli import verdicts
from services.cli.completing import audits
from services.cli.gates import Gate, crossings, gates, unjudged
from services.cli.output import FAILED, GATE, OK, Json, WrongUse, client, print_path, say
from services.client import ClientError, NoReport, Report

FailOn = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-on",
        metavar="GATE",
        help="Exit 3 if a row of the report crosses this, such as 'psnr.gain>6': METRIC[.FIELD] OP NUMBER, "
        "the field is mean if left out; may be repeated.",
    ),
]


def report(
    item: Annotated[str, typer.Argument(metavar="ID", help="An audit or a report job.", autocompletion=audits)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Where to save it. Default: report-ID.")
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    fail_on: FailOn = None,
    json: Json = False,
) -> None:
    """Save an audit's report and show its verdict; with --json print report.json."""
    drawn = gates(fail_on or ())
    with client() as gateway:
        found = gateway.get_report(item)
    if not json:
        verdicts.show(found)
    elif not drawn:
        sys.stdout.buffer.write(found.json)
    if output is not None or open_ or not json:
        paths = found.save(output or Path(f"report-{item}"))
        for path in paths:
            say(str(path)) if json else print_path(path)
        if open_:
            webbrowser.open(paths[-1].resolve().as_uri())
    if drawn:
        raise typer.Exit(judge(found, drawn, json, failed=False))


def conclude(
    item: str, drawn: Sequence[Gate] = (), to: Path | None = None, json: bool = False, failed: bool = False
) -> int:
    """What is said of an audit that has ended, and the exit status."""
    with client() as gateway:
        try:
            found = gateway.get_report(item)
        except ClientError as error:
            needed = bool(drawn or to)
            if needed or not isinstance(error, NoReport):
                say(f"palimpsest: {error}")
            return FAILED if failed or needed else OK
    if not json:
        verdicts.show(found)
    if to is not None:
        for path in found.save(to):
            say(f"saved {path}")
    elif not json:
        say(f"save it with: palimpsest report {item}")
    return judge(found, drawn, json, failed)


def judge(found: Report, drawn: Sequence[Gate], json: bool, failed: bool) -> int:
    """Tell every crossing, and every row that cannot be judged; the exit status.

    An audit that is not complete has not passed, whatever its other rows say. A row that cannot be judged has not
    passed either, but a crossing is the stronger word.

    Raises:
        WrongUse: no row has what a gate names.
    """
    incomplete = failed or bool(drawn and found.missing)
    crossed = []
    with suppress(*[WrongUse] if incomplete else []):  # the rows that had it may be those that are missing
        crossed = crossings(drawn, found.rows)
    for crossing in crossed:
        _tell({"crossed": crossing.as_json()}, f"crossed: {crossing}", json)
    left = unjudged(drawn, found.rows)
    for row in left:
        _tell({"unjudged": row.as_json()}, f"palimpsest: {row}, so it has not passed", json)
    if drawn and not crossed and not left and not incomplete:
        _tell({"crossed": None}, f"no row crosses {' or '.join(g.text for g in drawn)}", json)
    if drawn and found.missing:
        say(f"palimpsest: {len(found.missing)} rows are missing, so nothing has passed")
    if crossed and not incomplete:
        return GATE
    return FAILED if incomplete or left else OK


def _tell(value: Any, sentence: str, json: bool) -> None:
    if json:
        typer.echo(jsonlib.dumps(value))
    else:
        say(sentence)
