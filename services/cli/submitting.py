"""submit, audit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.cli import reading
from services.cli.following import follow
from services.cli.output import Json, as_json, client, coloured, console, say, table
from services.client import DryRun

Watch = Annotated[bool, typer.Option("--watch", "-w", help="Follow it to its end.")]


def submit(
    stage: Annotated[str, typer.Argument(help="Stage, as in `palimpsest catalog stage`.")],
    method: Annotated[
        str | None, typer.Option("--method", "-m", help="Which one, for stages that have methods.")
    ] = None,
    param: Annotated[
        list[str] | None, typer.Option("--param", "-p", metavar="NAME=VALUE", help="A parameter; may be repeated.")
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--input", "-i", metavar="ROLE=JOB", help="An input: a job, JOB:ROLE, or a sha256; may be repeated."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="All the job's randomness.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run it even if the same work was done before.")] = False,
    priority: Annotated[int | None, typer.Option(help="Higher goes first.")] = None,
    time_limit: Annotated[float | None, typer.Option(help="Seconds that one attempt may run.")] = None,
    watch: Watch = False,
    json: Json = False,
) -> None:
    """Submit one job: one stage by hand."""
    with client() as gateway:
        job = gateway.submit_job(
            stage,
            method=method,
            params=reading.params(param or ()),
            inputs=reading.inputs(given or ()),
            seed=seed,
            fresh=fresh,
            priority=priority,
            time_limit=time_limit,
        )
    if not (watch and json):
        if json:
            as_json(job.raw)
        else:
            typer.echo(job.id)
            say(
                "submitted" if job.created else f"an equal job is there already ({job.state}): shared, nothing new runs"
            )
    if watch:
        raise typer.Exit(follow([job.id], json))
    if not json:
        say(f"follow it with: palimpsest watch {job.id}")


def audit(
    file: Annotated[Path, typer.Argument(help="The audit as YAML.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would come to, and store nothing.")] = False,
    watch: Watch = False,
    json: Json = False,
) -> None:
    """Submit an audit: one grid of choices, every job it needs made once."""
    spec = reading.audit_file(file)
    with client() as gateway:
        if dry_run:
            _dry_run(gateway.dry_run(spec), json)
            return
        made = gateway.submit_audit(spec)
    if not (watch and json):
        if json:
            as_json(made.raw)
        else:
            typer.echo(made.id)
            say(f"{made.total} jobs, {made.total - len(made.created)} of them there already")
    if watch:
        raise typer.Exit(follow([made.id], json))
    if not json:
        say(f"follow it with: palimpsest watch {made.id}")


def _dry_run(found: DryRun, json: bool) -> None:
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
