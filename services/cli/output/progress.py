"""`--watch`: progress bars on a terminal, plain lines in a pipe, JSON lines for a program."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Protocol

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column

from services.cli.output.console import (
    FAILED,
    INTERRUPTED,
    OK,
    colour_state,
    escape_markup,
    escape_unprintable,
    format_duration,
    make_client,
    print_note,
    stdout_console,
)
from services.client import Client, Update

RETRY_FOR_S = 60.0  # how long to wait for a gateway that is restarting
LINE_INTERVAL_S = 2.0  # between two plain lines about one job while its state stays the same
MAX_FAILURES_SHOWN = 50  # failed jobs of an audit
MAX_NUMBERS_SHOWN = 3  # of a job, beside its bar


def follow(ids: list[str], json_lines: bool) -> int:
    """Show updates until all items have ended; returns the exit status. Ctrl-C detaches; they keep
    running."""
    display: Display = (
        JsonLinesDisplay()
        if json_lines
        else ProgressBarDisplay()
        if sys.stdout.isatty()
        else PlainLinesDisplay()
    )
    final_states: dict[str, str] = {}
    explained: set[str] = set()
    try:
        with make_client(RETRY_FOR_S) as gateway:
            for update in _display_updates(display, gateway.watch(*ids)):
                if update.requested and update.is_final:
                    final_states[update.id] = update.state
                if format_failure(update):
                    explained.add(update.id)
            if not json_lines:
                _print_failures(
                    gateway,
                    (
                        i
                        for i in final_states
                        if final_states[i] == "failed" and i.startswith("aud_")
                    ),
                    explained,
                )
    except KeyboardInterrupt:
        running = [i for i in ids if i not in final_states]
        print_note(f"Still running. To reattach: palimpsest watch {' '.join(running)}")
        return INTERRUPTED
    return OK if all(state == "succeeded" for state in final_states.values()) else FAILED


def _print_failures(gateway: Client, audits: Iterable[str], explained: set[str]) -> None:
    """Print the failures that no update has shown: a job that fails at once ends between two
    polls."""
    for audit in audits:
        for job in islice(
            gateway.list_jobs(audit=audit, state="failed", limit=MAX_FAILURES_SHOWN),
            MAX_FAILURES_SHOWN,
        ):
            if job.failure != "input_failed" and job.id not in explained:
                job_name = f"{job.stage} {job.method}" if job.method else job.stage
                print_note(f"{job.id} ({job_name}) failed, {job.failure}: {job.message}")


class Display(Protocol):
    """Shows updates."""

    def show(self, update: Update) -> None: ...

    def close(self) -> None: ...


def _display_updates(display: Display, updates: Iterable[Update]) -> Iterator[Update]:
    try:
        for update in updates:
            display.show(update)
            yield update
    finally:
        display.close()


class JsonLinesDisplay:
    """One JSON object per update."""

    def show(self, update: Update) -> None:
        typer.echo(json.dumps(dataclasses.asdict(update)))

    def close(self) -> None:
        pass


class PlainLinesDisplay:
    """One line per change of state, and one every few seconds in between."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[str, float]] = {}

    def show(self, update: Update) -> None:
        state, when = self._last.get(update.id, ("", 0.0))
        now = time.monotonic()
        if state == update.state and not update.is_final and now - when < LINE_INTERVAL_S:
            return
        self._last[update.id] = (update.state, now)
        words = [
            update.id,
            update.label,
            update.state,
            format_count(update),
            format_rate(update),
            format_time_left(update),
        ]
        words += [format_numbers(update), format_failure(update)]
        typer.echo(escape_unprintable("  ".join(word for word in words if word)))

    def close(self) -> None:
        pass


# The columns of the live view, and from which terminal width each is shown. Those with 0 fit into
# 80 columns.
COLUMN_MIN_WIDTHS = {
    "{task.fields[state]}": 0,
    "[b]{task.fields[label]}[/]": 0,
    "[dim]{task.fields[id]}[/]": 120,
    "bar": 0,
    "{task.fields[count]}": 0,
    "[dim]{task.fields[rate]}[/]": 140,
    "[dim]{task.fields[left]}[/]": 0,
    "{task.fields[numbers]}": 180,
}
MAX_LABEL_CHARS = 30  # what the other columns leave of 80


class ProgressBarDisplay:
    """One bar per job: stage, done of total and time left; on a wide terminal its id, rate and
    numbers too."""

    def __init__(self, screen: Console | None = None) -> None:
        self._tasks: dict[str, TaskID] = {}
        self._transient_jobs: set[str] = set()  # jobs that are shown only while they run
        screen = screen or stdout_console()
        bar_width = 24 if screen.width >= COLUMN_MIN_WIDTHS["[dim]{task.fields[id]}[/]"] else 8
        self._progress = Progress(
            *(
                BarColumn(bar_width)
                if shows == "bar"
                else TextColumn(shows, table_column=Column(no_wrap=True, max_width=limit))
                for shows, least in COLUMN_MIN_WIDTHS.items()
                if screen.width >= least
                for limit in [MAX_LABEL_CHARS if "label" in shows else None]
            ),
            console=screen,
        )
        self._progress.start()

    def show(self, update: Update) -> None:
        task = self._tasks.get(update.id)
        if task is None:
            task = self._tasks[update.id] = self._progress.add_task(
                "", total=None, start=False, id=escape_markup(update.id),
                label=escape_markup(update.label), state="", count="", rate="", left="", numbers="",
            )  # fmt: skip
        if update.state == "running" and update.total:
            self._progress.start_task(task)
        self._progress.update(
            task,
            total=update.total or (1 if update.is_final else None),
            completed=update.done if update.total else float(update.is_final),
            state=colour_state(f"{update.state:<9}").replace(
                update.state, colour_state(update.state), 1
            ),
            count=format_count(update),
            rate=format_rate(update),
            left=format_time_left(update),
            numbers=escape_markup(format_numbers(update)),
        )
        if not update.requested:
            self._hide_succeeded(update)
        if update.is_final and update.kind == "audit":
            for job in self._transient_jobs:  # they have ended too, between the last two polls
                self._progress.update(self._tasks[job], visible=False)
        if format_failure(update):
            self._progress.console.print(
                f"{escape_markup(update.id)}: {escape_markup(format_failure(update))}", style="red"
            )

    def _hide_succeeded(self, update: Update) -> None:
        """Hide jobs of an audit that have succeeded, to make room for the others."""
        if not update.is_final:
            self._transient_jobs.add(update.id)
            return
        self._transient_jobs.discard(update.id)
        self._progress.update(self._tasks[update.id], visible=update.state != "succeeded")

    def close(self) -> None:
        self._progress.stop()


def format_count(update: Update) -> str:
    """Done of total."""
    return f"{update.done:g}/{update.total:g}" if update.total else ""


def format_rate(update: Update) -> str:
    """Steps per second, or per minute."""
    if update.is_final or not update.steps_per_s:
        return ""
    return (
        f"{update.steps_per_s:.3g}/s"
        if update.steps_per_s >= 0.1
        else f"{update.steps_per_s * 60:.2g}/min"
    )


def format_time_left(update: Update) -> str:
    """Estimated time left at this rate."""
    return (
        ""
        if update.is_final or update.remaining_s is None
        else f"{format_duration(update.remaining_s)} left"
    )


def format_numbers(update: Update) -> str:
    """Current numbers, such as the matching loss; for an audit the number of jobs in each state."""
    if update.kind == "audit":
        return " ".join(f"{n:g} {state}" for state, n in update.numbers.items())
    some = list(update.numbers.items())[:MAX_NUMBERS_SHOWN]
    return "  ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in some)


def format_failure(update: Update) -> str:
    """Why it failed."""
    if not update.is_final or update.failure is None:
        return ""
    return f"{update.failure}: {update.message}" if update.message else update.failure
