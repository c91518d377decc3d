"""`--dry-run`: which jobs there would be, and what they will cost, as far as past jobs tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from services.cli.output.console import (
    colour_state,
    escape_markup,
    format_duration,
    format_size,
    print_json,
    print_table,
    stdout_console,
)
from services.client import DryRun, Quote, StageQuote

DryRunOption = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Show the jobs this would create and what they would cost; submit nothing.",
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=1000,
        help="With --dry-run: also estimate the time with this many workers of each kind.",
    ),
]
_BASES = {
    "equal": "equal jobs",
    "similar": "similar jobs",
    "other_settings": "jobs with other settings",
}


def print_dry_run(dry_run: DryRun, json: bool, **more: Any) -> None:
    """Print a dry run; `more` is for programs only."""
    if json:
        print_json({**dry_run.raw, **more})
        return
    quote, states = dry_run.quote, _count_states(dry_run)
    columns = ["stage", "method", "jobs", "reused", "each", "CPU", "memory", "from"]
    print_table(columns, [_format_row(row, states) for row in quote.stages])
    print_line = stdout_console().print
    print_line(f"{dry_run.total} jobs: {dry_run.new} new, {dry_run.reused} reused")
    for line in _describe_quote(quote, dry_run.new):
        print_line(escape_markup(line))
    for cost in dry_run.costs:
        print_line(escape_markup(cost))


def _count_states(dry_run: DryRun) -> Mapping[tuple[str, str | None], Counter[str]]:
    """By stage and method, how many of the jobs that will be reused are in which state."""
    states: dict[tuple[str, str | None], Counter[str]] = {}
    for job in dry_run.jobs:
        if job["reused"]:
            states.setdefault((job["stage"], job["method"]), Counter())[str(job["state"])] += 1
    return states


def _format_row(
    row: StageQuote, states: Mapping[tuple[str, str | None], Counter[str]]
) -> list[str]:
    reused = ", ".join(
        f"{n} {colour_state(state)}" for state, n in states.get((row.stage, row.method), {}).items()
    )
    return [
        escape_markup(row.stage),
        escape_markup(row.method or "-"),
        str(row.jobs),
        reused or "-",
        *_format_figures(row),
    ]


def _format_figures(row: StageQuote) -> list[str]:
    """Seconds of one job, processor time of all, memory, and what the figures rest on."""
    if not row.new:
        return ["-", "-", "-", "-"]
    if row.seconds is None or row.basis is None:
        return ["?", "?", "?", "no history"]
    basis = f"{row.past_jobs} {_BASES.get(row.basis, row.basis)}"
    if row.past_jobs == 1:
        basis = basis.replace("jobs", "job")
    if row.unknown:
        basis += f"; no history of {row.unknown}"
    low, high = row.seconds_low or row.seconds, row.seconds_high or row.seconds
    spread = (
        f" ({format_seconds(low)} to {format_seconds(high)})"
        if high > 1.5 * low and high >= 1
        else ""
    )
    return [
        f"{format_seconds(row.seconds)}{spread}",
        format_seconds(row.cpu_seconds or 0.0),
        format_size(row.memory_bytes) if row.memory_bytes else "?",
        escape_markup(basis),
    ]


def format_seconds(seconds: float) -> str:
    """A duration; below a minute with two digits."""
    return f"{seconds:.2g} s" if seconds < 9.95 else format_duration(seconds)


def _describe_quote(quote: Quote, new: int) -> list[str]:
    """The figures of all new jobs together, and what is not in them."""
    known = new - quote.unknown
    lines = []
    if known:
        wall = (
            "" if quote.wall_seconds is None
            else f"about {format_seconds(quote.wall_seconds)} with the workers that are up, "
            "if nothing else runs; "
        )  # fmt: skip
        memory = (
            f"; at most {format_size(quote.memory_bytes)} in one worker"
            if quote.memory_bytes
            else ""
        )
        device = (
            f", {format_size(quote.device_memory_bytes)} on its accelerator"
            if quote.device_memory_bytes
            else ""
        )
        lines.append(f"{wall}CPU time {format_seconds(quote.cpu_seconds)}{memory}{device}")
        if quote.wall_seconds_with_workers is not None:
            seconds = format_seconds(quote.wall_seconds_with_workers)
            lines.append(f"about {seconds} with {quote.workers} workers of each kind")
        lines.append(f"measured on {' and '.join(quote.machines)}")
    if quote.unknown:
        subject = "job has" if quote.unknown == 1 else "jobs have"
        figures = ", and the figures leave them out" if known else ""
        lines.append(
            f"{quote.unknown} {subject} no history: no job of the kind has run here{figures}"
        )
    if quote.unserved_stages:
        lines.append(f"no worker is up for {', '.join(quote.unserved_stages)}")
    return lines
