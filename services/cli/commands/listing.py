"""jobs, audits, show, catalog, queues, workers."""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Annotated, Any

import typer

from services.cli import completion
from services.cli.input.filters import (
    AuditLabelFilter,
    CreatedAfter,
    CreatedBefore,
    FinishedAfter,
    LabelFilter,
    parse_times,
)
from services.cli.output.annotations import format_annotations
from services.cli.output.console import (
    Json,
    colour_state,
    escape_markup,
    format_age,
    format_size,
    make_client,
    print_json,
    print_pairs,
    print_table,
    stdout_console,
)
from services.cli.output.queue_table import watch_queues
from services.client import Audit, Job

MAX_LISTED_VALUES = 20  # of a parameter, in a table

Limit = Annotated[int, typer.Option(min=1, help="Maximum number, newest first.")]


def jobs(
    stage: Annotated[
        str | None,
        typer.Option(help="Only this stage.", autocompletion=completion.complete_plugins("stage")),
    ] = None,
    method: Annotated[str | None, typer.Option(help="Only this method.")] = None,
    state: Annotated[str | None, typer.Option(help="Only this state.")] = None,
    audit: Annotated[
        str | None,
        typer.Option(help="Only this audit's jobs.", autocompletion=completion.complete_audits),
    ] = None,
    label: AuditLabelFilter = None,
    created_after: CreatedAfter = None,
    created_before: CreatedBefore = None,
    finished_after: FinishedAfter = None,
    limit: Limit = 20,
    json: Json = False,
) -> None:
    """List jobs, newest first."""
    times = parse_times(created_after, created_before, finished_after)
    with make_client() as gateway:
        matching = gateway.list_jobs(
            stage=stage, method=method, state=state, audit=audit, label=label, **times,
            limit=min(limit, 200),
        )  # fmt: skip
        items = list(islice(matching, limit))
    if json:
        print_json([job.raw for job in items])
    else:
        _print_job_table(items)


def audits(
    name: Annotated[
        str | None, typer.Option(help="Only audits whose name contains this (case-insensitive).")
    ] = None,
    state: Annotated[str | None, typer.Option(help="Only this state.")] = None,
    label: LabelFilter = None,
    created_after: CreatedAfter = None,
    created_before: CreatedBefore = None,
    finished_after: FinishedAfter = None,
    limit: Limit = 20,
    json: Json = False,
) -> None:
    """List audits, newest first."""
    times = parse_times(created_after, created_before, finished_after)
    with make_client() as gateway:
        matching = gateway.list_audits(
            name=name, state=state, label=label, **times, limit=min(limit, 200)
        )
        items = list(islice(matching, limit))
    if json:
        print_json([audit.raw for audit in items])
        return
    rows = [
        [
            a.id,
            escape_markup(a.name),
            colour_state(a.state),
            f"{a.finished}/{a.total}",
            format_age(a.created_at),
            escape_markup(" ".join(f"{key}={value}" for key, value in a.labels.items())),
        ]
        for a in items
    ]
    with_labels = 6 if any(a.labels for a in items) else 5
    columns = ["audit", "name", "state", "jobs", "age", "labels"]
    print_table(columns[:with_labels], [row[:with_labels] for row in rows])


def show(
    item: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="A job or an audit.", autocompletion=completion.complete_items
        ),
    ],
    json: Json = False,
) -> None:
    """Show the details of a job or an audit."""
    with make_client() as gateway:
        if item.startswith("aud_"):
            audit = gateway.get_audit(item)
            if json:
                print_json(audit.raw)
                return
            _print_audit(audit)
            failed = list(islice(gateway.list_jobs(audit=item, state="failed", limit=20), 20))
            if failed:
                _print_job_table(failed)
            return
        job = gateway.get_job(item)
    if json:
        print_json(job.raw)
    else:
        _print_job(job)


def _print_job_table(items: Sequence[Job]) -> None:
    rows = [
        [
            j.id,
            j.stage,
            j.method or "-",
            str(j.seed),
            colour_state("stopping" if j.stopping and not j.is_terminal else j.state),
            _format_progress(j),
            format_age(j.created_at),
            escape_markup(j.message or ""),
        ]
        for j in items
    ]
    columns = ["job", "stage", "method", "seed", "state", "progress", "age", "message"]
    if not sys.stdout.isatty():
        print_table(columns, rows)
        return
    print_table(columns[:-1], [row[:-1] for row in rows])  # a terminal is narrow: messages go below
    with_message = [row for row in rows if row[-1]]
    if with_message:
        stdout_console().print()
    for row in with_message:
        stdout_console().print(f"{row[0]}  {row[-1]}")


def _format_progress(job: Job) -> str:
    done, total = job.progress.get("done"), job.progress.get("total")
    return (
        f"{done:g}/{total:g}"
        if isinstance(done, int | float) and isinstance(total, int | float)
        else "-"
    )


def _print_job(job: Job) -> None:
    numbers = {k: v for k, v in job.progress.items() if k not in ("done", "total")}
    fields = {
        "job": job.id,
        "stage": f"{job.stage} {job.method}" if job.method else job.stage,
        "state": colour_state(job.state)
        + (" (stopping)" if job.stopping and not job.is_terminal else ""),
        "failure": f"[red]{job.failure}[/]" if job.failure else "",
        "message": escape_markup(job.message or "", keep="\n"),
        "seed": str(job.seed),
        "params": _format_json(job.params),
        "inputs": "\n".join(
            f"{role} from {_format_source(source)}" for role, source in job.inputs.items()
        ),
        "progress": f"{_format_progress(job)} {_format_json(numbers) if numbers else ''}"
        if job.progress
        else "",
        "attempts": f"{job.attempt}, {job.lost_count} lost" if job.attempt else "",
        "worker": escape_markup(job.worker or ""),
        "reused": f"artifacts of {job.reused_from}" if job.reused_from else "",
        "audits": ", ".join(job.audits),
        "created": job.created_at or "",
        "started": job.started_at or "",
        "finished": job.finished_at or "",
    }
    print_pairs({name: text for name, text in fields.items() if text.strip()})
    if job.artifacts:
        stdout_console().print()
        rows = [
            [a.role, format_size(a.size), a.sha256, a.media_type] for a in job.artifacts.values()
        ]
        column_count = 3 if sys.stdout.isatty() else 4  # a digest does not fit on a terminal
        print_table(
            ["artifact", "size", "sha256", "type"][:column_count],
            [row[:column_count] for row in rows],
        )


def _format_source(source: Mapping[str, str]) -> str:
    return (
        f"{source['job']}:{source.get('role', '')}"
        if "job" in source
        else source.get("sha256", "?")
    )


def _format_json(value: Any) -> str:
    return escape_markup(jsonlib.dumps(value, ensure_ascii=False))


def _print_audit(audit: Audit) -> None:
    print_pairs(
        {
            "audit": audit.id,
            "name": escape_markup(audit.name),
            "state": colour_state(audit.state),
            "jobs": f"{audit.finished} of {audit.total} have ended",
            "created": audit.created_at or "",
            **format_annotations(audit),
        }
    )
    stdout_console().print()
    _print_counts("stage", audit.stages)


_STATES = ("waiting", "queued", "paused", "running", "succeeded", "failed", "cancelled")


def _print_counts(heading: str, counts_by_name: Mapping[str, Mapping[str, int]]) -> None:
    rows = [
        [name, *(str(counts.get(state, "-")) for state in _STATES)]
        for name, counts in counts_by_name.items()
    ]
    print_table([heading, *_STATES], rows)


def catalog(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="stage, attack, unlearning, dataset, ...", autocompletion=completion.complete_kinds
        ),
    ] = None,
    json: Json = False,
) -> None:
    """List the plugins that workers have published; given a kind, also their parameters."""
    with make_client() as gateway:
        response = gateway.get_catalog(kind)
    if json:
        print_json(response)
        return
    if not response["kinds"]:
        of_kind = "" if kind is None else f" of kind {kind}"
        stdout_console().print(
            f"no plugins{escape_markup(of_kind)} have been published: has a worker started?"
        )
    for i, (name, entries) in enumerate(response["kinds"].items()):
        if i:
            stdout_console().print()
        print_table(
            [name, "summary", "needs"],
            [[e["name"], escape_markup(e["summary"]), ", ".join(e["needs"])] for e in entries],
        )
        for entry in entries if kind else ():
            _print_entry(entry)


def _print_entry(entry: Mapping[str, Any]) -> None:
    properties = entry["params_schema"].get("properties", {})
    rows = [
        [
            p,
            _describe_type(schema),
            _format_json(schema["default"]) if "default" in schema else "required",
            _describe_parameter(schema),
        ]
        for p, schema in properties.items()
    ]
    if rows:
        stdout_console().print()
        print_table([entry["name"], "type", "default", "summary"], rows)


def _describe_type(schema: Mapping[str, Any]) -> str:
    if "x-plugin" in schema:
        return str(schema["x-plugin"])
    if "enum" in schema:
        values = [str(v) for v in schema["enum"]]
        if len(values) > MAX_LISTED_VALUES:
            return escape_markup(f"one of {len(values):,} names; --json lists them")
        return escape_markup("|".join(values))
    if "anyOf" in schema:
        return " or ".join(_describe_type(s) for s in schema["anyOf"])
    return str(schema.get("type", "-"))


def _describe_parameter(schema: Mapping[str, Any]) -> str:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    bounds = (
        f" ({'' if low is None else low}..{'' if high is None else high})" if low != high else ""
    )
    return escape_markup(str(schema.get("description", "")) + bounds)


def queues(
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until Ctrl-C.")] = False,
    interval_s: Annotated[
        float, typer.Option("--interval", min=0.2, help="Seconds between updates.")
    ] = 2.0,
    json: Json = False,
) -> None:
    """List each stage's queue and its number of live workers."""
    if watch:
        raise typer.Exit(watch_queues(interval_s, json))
    with make_client() as gateway:
        items = gateway.list_queues()
    if json:
        print_json(items)
        return
    rows = [
        [
            q["stage"],
            *(str(q["counts"].get(s, "-")) for s in _STATES),
            str(q["workers"]) + (" [yellow]paused[/]" if q["paused_at"] else ""),
        ]
        for q in items
    ]
    print_table(["stage", *_STATES, "workers"], rows)


def workers(json: Json = False) -> None:
    """List the workers seen in the last hour, with their current jobs."""
    with make_client() as gateway:
        items = gateway.list_workers()
    if json:
        print_json(items)
        return
    rows = [
        [
            escape_markup(w["id"]),
            _describe_worker(w),
            ", ".join(w["stages"]),
            escape_markup(w["device"]),
            str(w["threads"]),
            w["job"] or "-",
            format_age(w["seen_at"]),
        ]
        for w in items
    ]
    print_table(["worker", "state", "stages", "device", "threads", "job", "seen"], rows)


def _describe_worker(worker: Mapping[str, Any]) -> str:
    if not worker["live"]:
        return "[red]gone[/]"
    if not worker["drain"]:
        return "[green]live[/]"
    is_idle = worker["drained_at"] and not worker["job"]
    return "[yellow]drained[/]" if is_idle else "[yellow]draining[/]"
