"""jobs, audits, show, catalog, queues, workers."""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Annotated, Any

import typer

from services.cli import completing
from services.cli.output import Json, age, as_json, client, coloured, console, pairs, size, table, to_markup
from services.client import Audit, Job

Limit = Annotated[int, typer.Option(min=1, help="How many, newest first.")]


def jobs(
    stage: Annotated[
        str | None, typer.Option(help="Only this stage.", autocompletion=completing.plugins("stage"))
    ] = None,
    method: Annotated[str | None, typer.Option(help="Only this method.")] = None,
    state: Annotated[str | None, typer.Option(help="Only this state.")] = None,
    audit: Annotated[str | None, typer.Option(help="Only this audit's jobs.", autocompletion=completing.audits)] = None,
    limit: Limit = 20,
    json: Json = False,
) -> None:
    """List jobs, newest first."""
    with client() as gateway:
        found = gateway.list_jobs(stage=stage, method=method, state=state, audit=audit, limit=min(limit, 200))
        items = list(islice(found, limit))
    if json:
        as_json([job.raw for job in items])
    else:
        _job_table(items)


def audits(limit: Limit = 20, json: Json = False) -> None:
    """List audits, newest first."""
    with client() as gateway:
        items = list(islice(gateway.list_audits(limit=min(limit, 200)), limit))
    if json:
        as_json([audit.raw for audit in items])
        return
    rows = [[a.id, to_markup(a.name), coloured(a.state), f"{a.finished}/{a.total}", age(a.created_at)] for a in items]
    table(["audit", "name", "state", "jobs", "age"], rows)


def show(
    item: Annotated[str, typer.Argument(metavar="ID", help="A job or an audit.", autocompletion=completing.items)],
    json: Json = False,
) -> None:
    """Show all that is known of a job or an audit."""
    with client() as gateway:
        if item.startswith("aud_"):
            audit = gateway.get_audit(item)
            if json:
                as_json(audit.raw)
                return
            _show_audit(audit)
            failed = list(islice(gateway.list_jobs(audit=item, state="failed", limit=20), 20))
            if failed:
                _job_table(failed)
            return
        job = gateway.get_job(item)
    if json:
        as_json(job.raw)
    else:
        _show_job(job)


def _job_table(items: Sequence[Job]) -> None:
    rows = [
        [
            j.id,
            j.stage,
            j.method or "-",
            str(j.seed),
            coloured("stopping" if j.stopping and not j.is_terminal else j.state),
            _progress(j),
            age(j.created_at),
            to_markup(j.message or ""),
        ]
        for j in items
    ]
    columns = ["job", "stage", "method", "seed", "state", "progress", "age", "message"]
    if not sys.stdout.isatty():
        table(columns, rows)
        return
    table(columns[:-1], [row[:-1] for row in rows])  # a terminal is narrow: what is said of a job goes below
    told = [row for row in rows if row[-1]]
    if told:
        console().print()
    for row in told:
        console().print(f"{row[0]}  {row[-1]}")


def _progress(job: Job) -> str:
    done, total = job.progress.get("done"), job.progress.get("total")
    return f"{done:g}/{total:g}" if isinstance(done, int | float) and isinstance(total, int | float) else "-"


def _show_job(job: Job) -> None:
    numbers = {k: v for k, v in job.progress.items() if k not in ("done", "total")}
    every = {
        "job": job.id,
        "stage": f"{job.stage} {job.method}" if job.method else job.stage,
        "state": coloured(job.state) + (" (stopping)" if job.stopping and not job.is_terminal else ""),
        "failure": f"[red]{job.failure}[/]" if job.failure else "",
        "message": to_markup(job.message or "", keep="\n"),
        "seed": str(job.seed),
        "params": _compact(job.params),
        "inputs": "\n".join(f"{role} from {_source(source)}" for role, source in job.inputs.items()),
        "progress": f"{_progress(job)} {_compact(numbers) if numbers else ''}" if job.progress else "",
        "attempts": f"{job.attempt}, {job.lost_count} lost" if job.attempt else "",
        "worker": to_markup(job.worker or ""),
        "reused": f"took the artifacts of {job.reused_from}" if job.reused_from else "",
        "audits": ", ".join(job.audits),
        "created": job.created_at or "",
        "started": job.started_at or "",
        "finished": job.finished_at or "",
    }
    pairs({name: text for name, text in every.items() if text.strip()})
    if job.artifacts:
        console().print()
        rows = [[a.role, size(a.size), a.sha256, a.media_type] for a in job.artifacts.values()]
        shown = 3 if sys.stdout.isatty() else 4  # a digest is long, and a terminal narrow
        table(["artifact", "size", "sha256", "type"][:shown], [row[:shown] for row in rows])


def _source(source: Mapping[str, str]) -> str:
    return f"{source['job']}:{source.get('role', '')}" if "job" in source else source.get("sha256", "?")


def _compact(value: Any) -> str:
    return to_markup(jsonlib.dumps(value, ensure_ascii=False))


def _show_audit(audit: Audit) -> None:
    pairs(
        {
            "audit": audit.id,
            "name": to_markup(audit.name),
            "state": coloured(audit.state),
            "jobs": f"{audit.finished} of {audit.total} have ended",
            "created": audit.created_at or "",
        }
    )
    console().print()
    _counts_table("stage", audit.stages)


_ORDER = ("waiting", "queued", "held", "running", "succeeded", "failed", "cancelled")


def _counts_table(first: str, by: Mapping[str, Mapping[str, int]]) -> None:
    rows = [[name, *(str(counts.get(state, "-")) for state in _ORDER)] for name, counts in by.items()]
    table([first, *_ORDER], rows)


def catalog(
    kind: Annotated[
        str | None,
        typer.Argument(help="stage, attack, unlearning, dataset, ...", autocompletion=completing.kinds),
    ] = None,
    json: Json = False,
) -> None:
    """See what can be asked for, as the workers published it; with a kind, its parameters too."""
    with client() as gateway:
        found = gateway.get_catalog(kind)
    if json:
        as_json(found)
        return
    if not found["kinds"]:
        known = "" if kind is None else f" of kind {kind}"
        console().print(f"nothing{to_markup(known)} was published: has a worker started?")
    for place, (name, entries) in enumerate(found["kinds"].items()):
        if place:
            console().print()
        table(
            [name, "summary", "needs"], [[e["name"], to_markup(e["summary"]), ", ".join(e["needs"])] for e in entries]
        )
        for entry in entries if kind else ():
            _entry(entry)


def _entry(entry: Mapping[str, Any]) -> None:
    properties = entry["params_schema"].get("properties", {})
    rows = [
        [p, _type(schema), _compact(schema["default"]) if "default" in schema else "needed", _describe(schema)]
        for p, schema in properties.items()
    ]
    if rows:
        console().print()
        table([entry["name"], "type", "default", "summary"], rows)


def _type(schema: Mapping[str, Any]) -> str:
    if "x-plugin" in schema:
        return str(schema["x-plugin"])
    if "enum" in schema:
        return to_markup("|".join(str(v) for v in schema["enum"]))
    if "anyOf" in schema:
        return " or ".join(_type(s) for s in schema["anyOf"])
    return str(schema.get("type", "-"))


def _describe(schema: Mapping[str, Any]) -> str:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    bounds = f" ({'' if low is None else low}..{'' if high is None else high})" if low != high else ""
    return to_markup(str(schema.get("description", "")) + bounds)


def queues(json: Json = False) -> None:
    """See each stage's queue and how many live workers serve it."""
    with client() as gateway:
        items = gateway.list_queues()
    if json:
        as_json(items)
        return
    rows = [[q["stage"], *(str(q["counts"].get(s, "-")) for s in _ORDER), str(q["workers"])] for q in items]
    table(["stage", *_ORDER, "workers"], rows)


def workers(json: Json = False) -> None:
    """See every worker of the last hour, with the job each one has."""
    with client() as gateway:
        items = gateway.list_workers()
    if json:
        as_json(items)
        return
    rows = [
        [
            to_markup(w["id"]),
            ("[yellow]draining[/]" if w["drain"] else "[green]live[/]") if w["live"] else "[red]gone[/]",
            ", ".join(w["stages"]),
            to_markup(w["device"]),
            str(w["threads"]),
            w["job"] or "-",
            age(w["seen_at"]),
        ]
        for w in items
    ]
    table(["worker", "state", "stages", "device", "threads", "job", "seen"], rows)
