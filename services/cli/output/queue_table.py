"""`queues --watch`: the queues as a table that changes in its place, as tables one after the other in
a pipe, or as one line of JSON for each look."""

from __future__ import annotations

import json as jsonlib
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from services.cli.output.console import (
    INTERRUPTED,
    escape_unprintable,
    format_duration,
    make_client,
    stdout_console,
)
from services.client import Unavailable, Unreachable

RATE_WINDOW_S = 300.0  # of the looks that a rate is computed from
Queue = Mapping[str, Any]

# heading and least importance: what does not fit goes, the last of these first
COLUMNS = (
    "stage",
    "queued",
    "running",
    "oldest",
    "workers",
    "wait",
    "per min",
    "waiting",
    "paused",
)


class QueueRates:
    """How many jobs of each stage end per second, from looks within some minutes."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, dict[str, int]]] = deque()

    def add_look(self, now_s: float, queues: Sequence[Queue]) -> dict[str, float]:
        """Take in a look (`now_s` by the monotonic clock); returns the rates that can be told."""
        finished = {q["stage"]: int(q.get("finished") or 0) for q in queues}
        self._looks.append((now_s, finished))
        while now_s - self._looks[0][0] > RATE_WINDOW_S:
            self._looks.popleft()
        first_s, first = self._looks[0]
        if now_s == first_s:
            return {}
        return {
            stage: max(0, n - first[stage]) / (now_s - first_s)
            for stage, n in finished.items()
            if stage in first
        }


def watch_queues(interval_s: float, json_lines: bool) -> int:
    """Show the queues until Ctrl-C; returns the exit status. A gateway that goes away is waited
    for, but one that was never there is an error."""
    console, rates = stdout_console(), QueueRates()
    shown: Table | None = None
    with (
        make_client() as gateway,
        Live(
            console=console,
            auto_refresh=False,
            vertical_overflow="crop",
        )
        if sys.stdout.isatty() and not json_lines
        else _NoDisplay() as live,
    ):
        try:
            while True:
                try:
                    queues = gateway.list_queues()
                except (Unreachable, Unavailable) as error:
                    if shown is None and not json_lines:
                        raise
                    if shown is not None:
                        note = Text(escape_unprintable(f"{error}; trying again"), style="yellow")
                        live.update(Group(shown, note), refresh=True)
                    time.sleep(interval_s)
                    continue
                per_second = rates.add_look(time.monotonic(), queues)
                if json_lines:
                    _print_line(queues, per_second)
                else:
                    shown = build_table(queues, per_second, console.width)
                    if sys.stdout.isatty():
                        live.update(shown, refresh=True)
                    else:
                        console.print(shown)
                        sys.stdout.flush()
                time.sleep(interval_s)
        except KeyboardInterrupt:
            return INTERRUPTED


class _NoDisplay:
    """Nothing that stays in its place."""

    def __enter__(self) -> _NoDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, shown: object, *, refresh: bool = False) -> None:
        """Nothing."""


def _print_line(queues: Sequence[Queue], per_second: Mapping[str, float]) -> None:
    items = [
        {
            **queue,
            "rate_per_s": per_second.get(queue["stage"]),
            "wait_s": estimate_wait_s(queue, per_second.get(queue["stage"])),
        }
        for queue in queues
    ]
    typer.echo(jsonlib.dumps({"at": time.time(), "queues": items}))
    sys.stdout.flush()


def estimate_wait_s(queue: Queue, per_second: float | None) -> float | None:
    """In how many seconds a job that is queued now would begin, were all before it served first: at
    the rate of the last minutes, else with as many workers as there are; None if nobody knows."""
    queued = int(queue["counts"].get("queued", 0))
    if not queued and queue["workers"]:
        return 0.0
    if per_second:
        return queued / per_second
    if queue["workers"] and queue.get("mean_run_s") is not None:
        return float(queued * queue["mean_run_s"] / queue["workers"])
    return None


def build_table(queues: Sequence[Queue], per_second: Mapping[str, float], width: int) -> Table:
    """The table, with as many columns as fit into `width` characters."""
    rows = [_build_row(queue, per_second.get(queue["stage"])) for queue in queues]
    columns = list(COLUMNS)
    while len(columns) > 1 and _measure(rows, columns) > width:
        columns.pop()
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name in columns:
        is_stage = name == "stage"
        table.add_column(
            name,
            justify="left" if is_stage else "right",
            no_wrap=True,
            overflow="ellipsis",
        )
    for row in rows:
        style = "red" if row["queued"] != "-" and row["workers"] == "0" else ""
        table.add_row(*(Text(row[name]) for name in columns), style=style)
    return table


def _measure(rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> int:
    widths = [max(len(name), *(len(row[name]) for row in rows), 0) for name in columns]
    return sum(widths) + 2 * (len(columns) - 1)


def _build_row(queue: Queue, per_second: float | None) -> dict[str, str]:
    counts, age_s = queue["counts"], queue.get("oldest_age_s")
    wait_s = estimate_wait_s(queue, per_second)
    return {
        "stage": escape_unprintable(str(queue["stage"])),
        **{s: str(counts.get(s) or "-") for s in ("queued", "running", "waiting", "paused")},
        "oldest": "-" if age_s is None else format_duration(age_s),
        "workers": str(queue["workers"]),
        "per min": "-" if per_second is None else f"{60 * per_second:.1f}",
        "wait": "-" if wait_s is None else format_duration(wait_s),
    }
