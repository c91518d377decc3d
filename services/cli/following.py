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

from services.cli.output import FAILED, INTERRUPTED, OK, client, coloured, console, make_visible, say, span, to_markup
from services.client import Client, Update

RETRY_FOR_S = 60.0  # for which a gateway that is being restarted is waited for
LINE_EVERY = 2.0  # seconds between two plain lines about one job whose state is the same
REASONS = 50  # how many failed jobs of an audit are told of at most
NUMBERS = 3  # how many of a job's numbers fit beside its bar


def follow(ids: list[str], as_json: bool) -> int:
    """Show updates until all have ended; the exit status. Ctrl-C stops looking, not the work."""
    show: Display = JsonLines() if as_json else Bars() if sys.stdout.isatty() else Lines()
    ends: dict[str, str] = {}
    told: set[str] = set()
    try:
        with client(RETRY_FOR_S) as gateway:
            for update in _shown(show, gateway.watch(*ids)):
                if update.requested and update.is_final:
                    ends[update.id] = update.state
                if reason(update):
                    told.add(update.id)
            if not as_json:
                _tell_failures(gateway, (i for i in ends if ends[i] == "failed" and i.startswith("aud_")), told)
    except KeyboardInterrupt:
        running = [i for i in ids if i not in ends]
        say(f"Still running. To reattach: palimpsest watch {' '.join(running)}")
        return INTERRUPTED
    return OK if all(state == "succeeded" for state in ends.values()) else FAILED


def _tell_failures(gateway: Client, audits: Iterable[str], told: set[str]) -> None:
    """Why audits failed, as far as it was not seen: a job that fails at once is over between two looks."""
    for audit in audits:
        for job in islice(gateway.list_jobs(audit=audit, state="failed", limit=REASONS), REASONS):
            if job.failure != "input_failed" and job.id not in told:
                what = f"{job.stage} {job.method}" if job.method else job.stage
                say(f"{job.id} ({what}) failed, {job.failure}: {job.message}")


class Display(Protocol):
    """Shows updates."""

    def show(self, update: Update) -> None: ...

    def close(self) -> None: ...


def _shown(display: Display, updates: Iterable[Update]) -> Iterator[Update]:
    try:
        for update in updates:
            display.show(update)
            yield update
    finally:
        display.close()


class JsonLines:
    """One JSON object an update."""

    def show(self, update: Update) -> None:
        typer.echo(json.dumps(dataclasses.asdict(update)))

    def close(self) -> None:
        pass


class Lines:
    """One line when a state changes, and now and then in between."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[str, float]] = {}

    def show(self, update: Update) -> None:
        state, when = self._last.get(update.id, ("", 0.0))
        now = time.monotonic()
        if state == update.state and not update.is_final and now - when < LINE_EVERY:
            return
        self._last[update.id] = (update.state, now)
        words = [update.id, update.label, update.state, count(update), rate(update), left(update)]
        words += [numbers(update), reason(update)]
        typer.echo(make_visible("  ".join(word for word in words if word)))

    def close(self) -> None:
        pass


# What a live view shows, and how wide a terminal must be to show it. The least fits 80 columns.
COLUMNS = {
    "{task.fields[state]}": 0,
    "[b]{task.fields[label]}[/]": 0,
    "[dim]{task.fields[id]}[/]": 120,
    "bar": 0,
    "{task.fields[count]}": 0,
    "[dim]{task.fields[rate]}[/]": 140,
    "[dim]{task.fields[left]}[/]": 0,
    "{task.fields[numbers]}": 180,
}
MAX_LABEL = 30  # characters: what the other columns leave of 80


class Bars:
    """One bar per job: stage, done of total and time left; on a wide terminal its id, rate and numbers too."""

    def __init__(self, screen: Console | None = None) -> None:
        self._tasks: dict[str, TaskID] = {}
        self._passing: set[str] = set()  # jobs that are shown only while they run
        screen = screen or console()
        bar_width = 24 if screen.width >= COLUMNS["[dim]{task.fields[id]}[/]"] else 8
        self._bars = Progress(
            *(
                BarColumn(bar_width)
                if shows == "bar"
                else TextColumn(shows, table_column=Column(no_wrap=True, max_width=limit))
                for shows, least in COLUMNS.items()
                if screen.width >= least
                for limit in [MAX_LABEL if "label" in shows else None]
            ),
            console=screen,
        )
        self._bars.start()

    def show(self, update: Update) -> None:
        task = self._tasks.get(update.id)
        if task is None:
            task = self._tasks[update.id] = self._bars.add_task(
                "", total=None, start=False, id=to_markup(update.id), label=to_markup(update.label),
                state="", count="", rate="", left="", numbers="",
            )  # fmt: skip
        if update.state == "running" and update.total:
            self._bars.start_task(task)
        self._bars.update(
            task,
            total=update.total or (1 if update.is_final else None),
            completed=update.done if update.total else float(update.is_final),
            state=coloured(f"{update.state:<9}").replace(update.state, coloured(update.state), 1),
            count=count(update),
            rate=rate(update),
            left=left(update),
            numbers=to_markup(numbers(update)),
        )
        if not update.requested:
            self._pass(update)
        if update.is_final and update.kind == "audit":
            for job in self._passing:  # they have ended too, between the last two looks
                self._bars.update(self._tasks[job], visible=False)
        if reason(update):
            self._bars.console.print(f"{to_markup(update.id)}: {to_markup(reason(update))}", style="red")

    def _pass(self, update: Update) -> None:
        """An audit has many jobs: those that went well make room."""
        if not update.is_final:
            self._passing.add(update.id)
            return
        self._passing.discard(update.id)
        self._bars.update(self._tasks[update.id], visible=update.state != "succeeded")

    def close(self) -> None:
        self._bars.stop()


def count(update: Update) -> str:
    """Done of total."""
    return f"{update.done:g}/{update.total:g}" if update.total else ""


def rate(update: Update) -> str:
    """Steps per second, or per minute."""
    if update.is_final or not update.steps_per_s:
        return ""
    return f"{update.steps_per_s:.3g}/s" if update.steps_per_s >= 0.1 else f"{update.steps_per_s * 60:.2g}/min"


def left(update: Update) -> str:
    """Time that the rest will take at this rate."""
    return "" if update.is_final or update.remaining_s is None else f"{span(update.remaining_s)} left"


def numbers(update: Update) -> str:
    """The numbers of the moment, such as the matching loss; for an audit how many jobs are in each state."""
    if update.kind == "audit":
        return " ".join(f"{n:g} {state}" for state, n in update.numbers.items())
    some = list(update.numbers.items())[:NUMBERS]
    return "  ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in some)


def reason(update: Update) -> str:
    """Why it failed."""
    if not update.is_final or update.failure is None:
        return ""
    return f"{update.failure}: {update.message}" if update.message else update.failure
