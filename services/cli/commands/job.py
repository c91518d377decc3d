"""watch, cancel, retry, pause, resume, fetch."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from services.cli import completion
from services.cli.commands.report import show_outcome
from services.cli.output.console import (
    INTERRUPTED,
    Json,
    UsageError,
    format_size,
    make_client,
    print_json,
    print_note,
    print_path,
)
from services.cli.output.progress import follow
from services.client import ClientError, Job

JobId = Annotated[
    str, typer.Argument(metavar="ID", help="A job.", autocompletion=completion.complete_jobs)
]
ItemIds = Annotated[
    list[str],
    typer.Argument(
        metavar="ID...", help="Jobs or audits.", autocompletion=completion.complete_items
    ),
]


def watch(items: ItemIds, json: Json = False) -> None:
    """Follow jobs and audits until they end. Ctrl-C detaches; they keep running."""
    status = follow(list(dict.fromkeys(items)), json)
    if status != INTERRUPTED and not json:
        for audit in (item for item in dict.fromkeys(items) if item.startswith("aud_")):
            show_outcome(audit)
    raise typer.Exit(status)


def cancel(items: ItemIds, json: Json = False) -> None:
    """Cancel jobs or audits. A running job stops within seconds."""
    with make_client() as gateway:
        for item in items:
            cancelled = gateway.cancel(item)
            if json:
                print_json(cancelled.raw)
            elif isinstance(cancelled, Job) and not cancelled.is_terminal:
                print_note(f"{item} is {cancelled.state}, stopping")
            else:
                print_note(f"{item} is {cancelled.state}")


def retry(item: JobId, json: Json = False) -> None:
    """Rerun a failed or cancelled job, from its checkpoint if it has one."""
    with make_client() as gateway:
        job = gateway.retry(item)
        _print_state(job, json)
        with suppress(ClientError):  # the retry has been accepted, even if this query fails
            for audit in job.audits:
                if gateway.get_jobs_page(
                    audit=audit, stage="report", state="succeeded", limit=1
                ).items:
                    print_note(
                        f"the report of {audit} does not include it: "
                        "submit the audit again for a new report"
                    )


def pause(item: JobId, json: Json = False) -> None:
    """Pause a queued job: workers skip it until it is resumed."""
    with make_client() as gateway:
        _print_state(gateway.pause(item), json)


def resume(item: JobId, json: Json = False) -> None:
    """Resume a paused job."""
    with make_client() as gateway:
        _print_state(gateway.resume(item), json)


def _print_state(job: Job, json: bool) -> None:
    if json:
        print_json(job.raw)
    else:
        print_note(f"{job.id} is {job.state}")


def fetch(
    source: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="A job, or the sha256 of an artifact.",
            autocompletion=completion.complete_jobs,
        ),
    ],
    role: Annotated[
        str | None, typer.Argument(help="Role of the artifact, if the job has several artifacts.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="File or folder; - for standard output. Default: current folder."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Download an artifact and verify its digest."""
    if source.startswith("aud_"):
        raise UsageError(
            f"{source} is an audit: fetch from one of its jobs (palimpsest jobs --audit {source})"
        )
    with make_client() as gateway:
        if str(output) == "-":
            sys.stdout.buffer.write(gateway.fetch(source, role))
            return
        path = gateway.fetch_to(output or Path(), source, role)
    if json:
        print_json({"path": str(path), "size": path.stat().st_size})
    else:
        print_path(path)
        print_note(f"{format_size(path.stat().st_size)}, verified")
