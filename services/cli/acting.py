"""watch, cancel, retry, hold, unhold, fetch."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from services.cli import completing
from services.cli.following import follow
from services.cli.output import INTERRUPTED, Json, WrongUse, as_json, client, print_path, say, size
from services.cli.reporting import conclude
from services.client import ClientError, Job

JobId = Annotated[str, typer.Argument(metavar="ID", help="A job.", autocompletion=completing.jobs)]
Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="Jobs or audits.", autocompletion=completing.items)]


def watch(items: Ids, json: Json = False) -> None:
    """Follow jobs and audits to their ends. Ctrl-C stops looking, not the work."""
    status = follow(list(dict.fromkeys(items)), json)
    if status != INTERRUPTED and not json:
        for audit in (item for item in dict.fromkeys(items) if item.startswith("aud_")):
            conclude(audit)
    raise typer.Exit(status)


def cancel(items: Ids, json: Json = False) -> None:
    """Ask jobs or audits to end: a running job does within seconds."""
    with client() as gateway:
        for item in items:
            found = gateway.cancel(item)
            if json:
                as_json(found.raw)
            elif isinstance(found, Job) and not found.is_terminal:
                say(f"{item} is {found.state}, told to stop")
            else:
                say(f"{item} is {found.state}")


def retry(item: JobId, json: Json = False) -> None:
    """Run a failed or cancelled job again, from its checkpoint if it has one."""
    with client() as gateway:
        job = gateway.retry(item)
        _tell(job, json)
        with suppress(ClientError):  # the job is on its way, whatever becomes of this question
            for audit in job.audits:
                if gateway.get_jobs_page(audit=audit, stage="report", state="succeeded", limit=1).items:
                    say(f"the report of {audit} was made without it: post the audit again for a new one")


def hold(item: JobId, json: Json = False) -> None:
    """Keep a queued job from being taken."""
    with client() as gateway:
        _tell(gateway.hold(item), json)


def unhold(item: JobId, json: Json = False) -> None:
    """Let a held job be taken again."""
    with client() as gateway:
        _tell(gateway.unhold(item), json)


def _tell(job: Job, json: bool) -> None:
    if json:
        as_json(job.raw)
    else:
        say(f"{job.id} is {job.state}")


def fetch(
    source: Annotated[
        str,
        typer.Argument(metavar="ID", help="A job, or the sha256 of an artifact.", autocompletion=completing.jobs),
    ],
    role: Annotated[str | None, typer.Argument(help="Which of the job's artifacts.")] = None,
    to: Annotated[
        Path | None, typer.Option("--output", "-o", help="File or folder; - for standard output. Default: this folder.")
    ] = None,
    json: Json = False,
) -> None:
    """Fetch an artifact, checked against its digest."""
    if source.startswith("aud_"):
        raise WrongUse(f"{source} is an audit: fetch from one of its jobs (palimpsest jobs --audit {source})")
    with client() as gateway:
        if str(to) == "-":
            sys.stdout.buffer.write(gateway.fetch(source, role))
            return
        path = gateway.fetch_to(to or Path(), source, role)
    if json:
        as_json({"path": str(path), "size": path.stat().st_size})
    else:
        print_path(path)
        say(f"{size(path.stat().st_size)}, checked")
