"""watch, cancel, retry, pause, resume, priority, fetch."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli import completion
from services.cli.commands.report import show_outcome
from services.cli.commands.uploads import Yes
from services.cli.input.filters import AuditLabelFilter, CreatedAfter, CreatedBefore, parse_times
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
from services.client import Audit, Client, ClientError, Job

ItemId = Annotated[
    str,
    typer.Argument(
        metavar="ID", help="A job or an audit.", autocompletion=completion.complete_items
    ),
]
OptionalJobId = Annotated[
    str | None,
    typer.Argument(metavar="[ID]", help="A job.", autocompletion=completion.complete_jobs),
]
StageToPause = Annotated[
    str | None,
    typer.Option(
        "--stage",
        help="A stage instead of a job, for all tenants.",
        autocompletion=completion.complete_plugins("stage"),
    ),
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


def cancel(
    items: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID...]",
            help="Jobs or audits; leave out to use filters.",
            autocompletion=completion.complete_items,
        ),
    ] = None,
    stage: Annotated[str | None, typer.Option(help="All jobs of this stage.")] = None,
    method: Annotated[str | None, typer.Option(help="All jobs of this method.")] = None,
    state: Annotated[
        str | None, typer.Option(help="All jobs in this state, such as queued.")
    ] = None,
    audit: Annotated[
        str | None,
        typer.Option(help="All jobs of this audit.", autocompletion=completion.complete_audits),
    ] = None,
    label: AuditLabelFilter = None,
    created_after: CreatedAfter = None,
    created_before: CreatedBefore = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only count the jobs that the filters select.")
    ] = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Cancel jobs or audits; or, with filters, all jobs that match all of them. A running job stops
    within seconds."""
    given = {
        "stage": stage, "method": method, "state": state, "audit": audit, "label": label,
        **parse_times(created_after, created_before, None),
    }  # fmt: skip
    filters = {name: value for name, value in given.items() if value is not None}
    if bool(items) == bool(filters):
        raise UsageError("give jobs or audits, or filters such as --stage and --state; not both")
    if items and dry_run:
        raise UsageError(
            "--dry-run works with filters such as --stage and --state, not with jobs or audits"
        )
    with make_client() as gateway:
        if filters:
            _cancel_selected(gateway, filters, dry_run, yes, json)
        for item in items or ():
            cancelled = gateway.cancel(item)
            if json:
                print_json(cancelled.raw)
            elif isinstance(cancelled, Job) and not cancelled.is_terminal:
                print_note(f"{item} is {cancelled.state}, stopping")
            else:
                print_note(f"{item} is {cancelled.state}")


def _cancel_selected(
    gateway: Client, filters: Mapping[str, Any], dry_run: bool, yes: bool, json: bool
) -> None:
    """Cancel what filters select; on a terminal, after asking."""
    selected = gateway.cancel_jobs(dry_run=True, **filters)
    count = selected.cancelled + selected.stopping
    if not json:
        print_note(f"{count:,} jobs, of which {selected.stopping:,} are running")
    if not dry_run and count:
        if not yes and sys.stdin.isatty():
            typer.confirm("Cancel all of them?", abort=True, err=True)
        # those that were counted, and no others
        bounded = {**filters, "created_before": selected.created_before}
        selected = gateway.cancel_jobs(**bounded)
        if not json:
            print_note(f"{selected.cancelled:,} cancelled, {selected.stopping:,} stopping")
    if json:
        print_json(selected.raw)


def retry(item: ItemId, json: Json = False) -> None:
    """Rerun a failed or cancelled job, or all such jobs of an audit in order, from their
    checkpoints."""
    with make_client() as gateway:
        retried = gateway.retry(item)
        _print_state(retried, json)
        if isinstance(retried, Audit):
            if not json:
                print_note(f"{retried.retried} jobs run again")
                print_note(f"To follow it: palimpsest watch {retried.id}")
                if retried.skipped:
                    print_note(
                        f"{retried.skipped} cannot run again: they need a failed job outside "
                        "the audit"
                    )
            return
        with suppress(ClientError):  # the retry has been accepted, even if this query fails
            for audit in retried.audits:
                if gateway.get_jobs_page(
                    audit=audit, stage="report", state="succeeded", limit=1
                ).items:
                    print_note(
                        f"the report of {audit} does not include it: "
                        "submit the audit again for a new report"
                    )


def pause(item: OptionalJobId = None, stage: StageToPause = None, json: Json = False) -> None:
    """Pause a queued job, or a stage for all tenants: workers skip it until it is resumed."""
    with make_client() as gateway:
        if _require_one(item, stage):
            _print_state(gateway.pause(str(item)), json)
        else:
            _print_stage(gateway.pause_stage(str(stage)), json)


def resume(item: OptionalJobId = None, stage: StageToPause = None, json: Json = False) -> None:
    """Resume a paused job, or a paused stage."""
    with make_client() as gateway:
        if _require_one(item, stage):
            _print_state(gateway.resume(str(item)), json)
        else:
            _print_stage(gateway.resume_stage(str(stage)), json)


def _require_one(item: str | None, stage: str | None) -> bool:
    """Whether it is a job. Raises UsageError: both were given, or neither."""
    if (item is None) == (stage is None):
        raise UsageError("give a job, or --stage with the name of a stage")
    return item is not None


def _print_stage(queue: Mapping[str, Any], json: bool) -> None:
    if json:
        print_json(queue)
        return
    counts = queue["counts"]
    waiting, running = counts.get("queued", 0), counts.get("running", 0)
    state = "is paused" if queue["paused_at"] else "is not paused"
    print_note(f"{queue['stage']} {state}: {waiting:,} queued, {running:,} running")


def priority(
    items: ItemIds,
    to: Annotated[
        int, typer.Option(min=-100, max=100, help="The new priority: higher ones run first.")
    ],
    json: Json = False,
) -> None:
    """Change the priority of jobs, or of all jobs of audits, that have not ended."""
    with make_client() as gateway:
        for item in items:
            changed = gateway.set_priority(item, to)
            if json:
                print_json(changed.raw)
            elif isinstance(changed, Audit):
                print_note(f"{item}: {changed.changed} jobs now have priority {to}")
            else:
                print_note(f"{item} has priority {to}")


def _print_state(item: Job | Audit, json: bool) -> None:
    if json:
        print_json(item.raw)
    else:
        print_note(f"{item.id} is {item.state}")


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
