"""The live table of `queues --watch`."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from services.cli.output.queue_table import COLUMNS, QueueRates, build_table, estimate_wait_s


def _make_queue(stage: str = "attack", **values: Any) -> dict[str, Any]:
    queue: dict[str, Any] = {
        "stage": stage,
        "counts": {"queued": 12, "running": 2, "waiting": 3},
        "workers": 2,
        "oldest_age_s": 3700.0,
        "finished": 10,
        "mean_run_s": 30.0,
    }
    return {**queue, **values}


def _draw(width: int, *queues: dict[str, Any], **rates: float) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(build_table(queues, rates, width))
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue().splitlines()


def test_rates_come_from_two_looks() -> None:
    rates = QueueRates()
    assert rates.add_look(100.0, [_make_queue(finished=10)]) == {}
    assert rates.add_look(110.0, [_make_queue(finished=15)]) == {"attack": 0.5}
    # as after a restore: nothing runs backwards
    assert rates.add_look(120.0, [_make_queue(finished=0)]) == {"attack": 0.0}
    # a stage that is new has no rate yet; what is minutes old counts no more
    late = [_make_queue(finished=400), _make_queue("train")]
    assert rates.add_look(415.0, late) == {"attack": 400 / 295}


@pytest.mark.parametrize(
    ("values", "per_second", "wait_s"),
    [
        ({}, 0.5, 24.0),
        ({}, None, 180.0),
        ({}, 0.0, 180.0),
        ({"workers": 0}, None, None),
        ({"mean_run_s": None}, None, None),
        ({"counts": {}}, None, 0.0),
        ({"counts": {}, "workers": 0}, None, None),
    ],
)
def test_the_wait_is_estimated(
    values: dict[str, Any], per_second: float | None, wait_s: float | None
) -> None:
    assert estimate_wait_s(_make_queue(**values), per_second) == wait_s


def test_a_wide_terminal_shows_everything() -> None:
    heading, _, row = _draw(120, _make_queue(), attack=0.5)
    assert heading.split() == " ".join(COLUMNS).split()
    assert row.split() == [
        "attack",
        "12",
        "2",
        "1",
        "h",
        "01",
        "min",
        "2",
        "24",
        "s",
        "30.0",
        "3",
        "-",
    ]


@pytest.mark.parametrize("width", [8, 20, 30, 40, 60, 80])
def test_a_narrow_terminal_shows_what_fits(width: int) -> None:
    lines = _draw(width, _make_queue(), _make_queue("inspect_dataset", counts={}))
    assert len(lines) == 4  # a row stays a line
    assert all(len(line) <= width for line in lines)
    assert lines[0].split()[0] == "stage"


def test_hostile_stage_names_are_escaped() -> None:
    text = "\n".join(_draw(100, _make_queue("\x1b[31m[red]x")))
    assert "\x1b" not in text.replace("\x1b[0m", "")
    assert "[red]x" in text
