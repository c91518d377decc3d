"""logs: what happened to a job, one line an event."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import typer

from services.cli.completing import jobs
from services.cli.output import INTERRUPTED, Json, WrongUse, client, coloured, console, say, to_markup
from services.client import Event


def logs(
    item: Annotated[str, typer.Argument(metavar="ID", help="A job.", autocompletion=jobs)],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    json: Json = False,
) -> None:
    """See what happened to a job, with times; with --follow as it happens."""
    if item.startswith("aud_"):
        raise WrongUse(f"{item} is an audit: look at one of its jobs (palimpsest jobs --audit {item})")
    shown = console()
    with client() as gateway:
        try:
            for event in gateway.stream_events(item) if follow else gateway.list_events(item):
                if json:
                    typer.echo(jsonlib.dumps(event.raw))
                else:
                    shown.print(line(event))
        except KeyboardInterrupt:
            say(f"To reattach: palimpsest logs --follow {item}")
            raise typer.Exit(INTERRUPTED) from None


def line(event: Event) -> str:
    """One event, with rich markup."""
    at = datetime.fromisoformat(event.at).astimezone()
    return f"[dim]{at:%Y-%m-%d %H:%M:%S}[/]  {_told(event.kind, event.data)}"


def _told(kind: str, data: Mapping[str, Any]) -> str:
    if kind == "state":
        why = data.get("message") or data.get("because") or ""
        who = f" by {data['worker']}" if data.get("worker") else ""
        failure = f"{data['failure']}: " if data.get("failure") else ""
        return f"{coloured(str(data.get('to', '')))}  {to_markup(f'{failure}{why}{who}')}"
    if kind == "progress":
        done, total = data.get("done", 0), data.get("total", 0)
        numbers = "  ".join(f"{n.replace('_', ' ')} {_short(v)}" for n, v in data.items() if n not in ("done", "total"))
        return f"{kind}  {done:g}/{total:g}  {to_markup(numbers)}".rstrip()
    if kind == "cancel":
        return coloured("stopping") + "  told to stop"
    return f"{kind}  {to_markup('  '.join(f'{n} {_short(v)}' for n, v in data.items()))}".rstrip()


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
