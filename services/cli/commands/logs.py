"""logs: a job's events, one per line."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import typer

from services.cli.completion import complete_jobs
from services.cli.output.console import (
    INTERRUPTED,
    Json,
    UsageError,
    colour_state,
    escape_markup,
    make_client,
    print_note,
    stdout_console,
)
from services.client import Event


def logs(
    item: Annotated[str, typer.Argument(metavar="ID", help="A job.", autocompletion=complete_jobs)],
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Keep following until the job ends.")
    ] = False,
    json: Json = False,
) -> None:
    """Show a job's events with their times; --follow also shows new ones as they happen."""
    if item.startswith("aud_"):
        raise UsageError(
            f"{item} is an audit: use one of its jobs (palimpsest jobs --audit {item})"
        )
    shown = stdout_console()
    with make_client() as gateway:
        try:
            for event in gateway.stream_events(item) if follow else gateway.list_events(item):
                if json:
                    typer.echo(jsonlib.dumps(event.raw))
                else:
                    shown.print(format_event(event))
        except KeyboardInterrupt:
            print_note(f"To reattach: palimpsest logs --follow {item}")
            raise typer.Exit(INTERRUPTED) from None


def format_event(event: Event) -> str:
    """One event, with rich markup."""
    at = datetime.fromisoformat(event.at).astimezone()
    return f"[dim]{at:%Y-%m-%d %H:%M:%S}[/]  {_describe_event(event.kind, event.data)}"


def _describe_event(kind: str, data: Mapping[str, Any]) -> str:
    if kind == "state":
        reason = data.get("message") or data.get("because") or ""
        who = f" by {data['worker']}" if data.get("worker") else ""
        failure = f"{data['failure']}: " if data.get("failure") else ""
        return (
            f"{colour_state(str(data.get('to', '')))}  {escape_markup(f'{failure}{reason}{who}')}"
        )
    if kind == "progress":
        done, total = data.get("done", 0), data.get("total", 0)
        numbers = "  ".join(
            f"{n.replace('_', ' ')} {_format_value(v)}"
            for n, v in data.items()
            if n not in ("done", "total")
        )
        return f"{kind}  {done:g}/{total:g}  {escape_markup(numbers)}".rstrip()
    if kind == "cancel":
        return colour_state("stopping") + "  stop requested"
    values = "  ".join(f"{n} {_format_value(v)}" for n, v in data.items())
    return f"{kind}  {escape_markup(values)}".rstrip()


def _format_value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
