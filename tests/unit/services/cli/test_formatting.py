"""services.cli: the small functions that make text."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from services.cli.commands import logs
from services.cli.main import _explain_error
from services.cli.output import console, progress
from services.client import Event, Invalid, Update


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (60, "1 min 00 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 00 min"),
        (200_000, "2 days"),
    ],
)
def test_span(seconds, text):
    assert console.format_duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")]
)
def test_size(count, text):
    assert console.format_size(count) == text


def test_age():
    assert console.format_age(None) == "-"
    assert console.format_age((datetime.now(UTC) - timedelta(minutes=2)).isoformat()) == "2 min"
    assert (
        console.format_age((datetime.now(UTC) - timedelta(hours=5, minutes=50)).isoformat())
        == "5 h"
    )


def update(**more: object) -> Update:
    return Update(
        **{
            "id": "job_1",
            "kind": "job",
            "label": "l",
            "state": "running",
            "done": 1,
            "total": 4,
            **more,
        }
    )  # type: ignore[arg-type]


def test_what_stands_beside_a_bar():
    shown = update(
        steps_per_s=0.5, remaining_s=6.0, numbers={"matching_loss": 0.12345, "a": 1, "b": 2, "c": 3}
    )
    assert progress.format_count(shown) == "1/4"
    assert (progress.format_rate(shown), progress.format_time_left(shown)) == ("0.5/s", "6 s left")
    assert progress.format_numbers(shown) == "matching loss 0.1235  a 1  b 2"
    assert progress.format_rate(update(steps_per_s=0.05)) == "3/min"
    assert (progress.format_rate(update()), progress.format_time_left(update())) == ("", "")
    assert (
        progress.format_rate(update(steps_per_s=1, is_final=True)),
        progress.format_time_left(update(remaining_s=1, is_final=True)),
    ) == ("", "")
    assert progress.format_count(update(total=0)) == ""
    assert (
        progress.format_numbers(update(kind="audit", numbers={"queued": 2.0, "running": 1.0}))
        == "2 queued 1 running"
    )
    assert progress.format_failure(update(is_final=True, failure="timeout")) == "timeout"
    assert progress.format_failure(update(failure="timeout")) == ""


def test_every_wrong_field_is_told_once():
    errors = [
        {"field": "seed", "message": "too large"},
        {"field": "params.a", "message": "params.a: no"},
    ]
    text, status = _explain_error(Invalid(422, {"detail": "d", "errors": errors}))
    assert (text, status) == ("seed: too large\n  params.a: no", 2)
    assert _explain_error(Invalid(413, {"detail": "too much"})) == ("too much", 2)


def test_bars_of_an_audit_s_jobs_make_room():
    bars = progress.ProgressBarDisplay(Console(file=io.StringIO(), force_terminal=True, width=120))
    shown = {"id": "job_good", "requested": False}
    audit = {"id": "aud_1", "kind": "audit"}
    bars.show(update(**audit))
    bars.show(update(**shown))
    bars.show(update(id="job_bad", requested=False))
    bars.show(update(id="job_last", requested=False))
    assert visible(bars) == {"aud_1", "job_good", "job_bad", "job_last"}
    bars.show(update(**shown, is_final=True, state="succeeded"))
    bars.show(
        update(
            id="job_bad",
            requested=False,
            is_final=True,
            state="failed",
            failure="error",
            message="it [broke]",
        )
    )
    assert visible(bars) == {"aud_1", "job_bad", "job_last"}
    bars.show(update(**audit, is_final=True, state="failed"))
    bars.close()
    assert visible(bars) == {"aud_1", "job_bad"}


@pytest.mark.parametrize("width", [60, 80, 100, 120, 140, 180, 220])
def test_a_live_view_is_no_wider_than_the_terminal_and_shows_the_time_left(width):
    screen = io.StringIO()
    bars = progress.ProgressBarDisplay(
        Console(file=screen, force_terminal=True, width=width, color_system=None)
    )
    label = "attack label_inference_black_box"
    numbers = {"matching_loss": 0.12345, "regularisation": 1e-7, "best_so_far": 123.4}
    bars.show(
        update(
            id="aud_" + "0" * 20,
            kind="audit",
            label="x" * 60,
            done=1234,
            total=9999,
            steps_per_s=0.1,
            remaining_s=7e4,
        )
    )
    bars.show(
        update(
            id="job_" + "0" * 20,
            label=label,
            done=1200,
            total=24_000,
            steps_per_s=3,
            remaining_s=7600,
            numbers=numbers,
        )
    )
    screen.seek(0)
    screen.truncate()
    bars._progress.refresh()
    bars.close()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    lines = [line for line in re.split("[\r\n]+", text) if line.strip()]
    assert max(len(line) for line in lines) <= width
    if width >= 80:
        assert any(
            "1200/24000" in line and "2 h 06 min left" in line and "running" in line
            for line in lines
        )
    assert any("job_" + "0" * 20 in line for line in lines) == (width >= 120)
    assert any("matching loss" in line for line in lines) == (width >= 180)


def visible(bars: progress.ProgressBarDisplay) -> set[str]:
    return {item for item, task in bars._tasks.items() if bars._progress._tasks[task].visible}


def test_an_event_is_one_line():
    at = "2024-11-24T06:51:00.123Z"
    for kind, data, text in (
        (
            "state",
            {"to": "running", "because": "claimed", "worker": "w1"},
            "running[/]  claimed by w1",
        ),
        (
            "state",
            {"to": "failed", "failure": "error", "message": "a [b]"},
            "failed[/]  error: a \\[b]",
        ),
        (
            "progress",
            {"done": 1, "total": 4, "matching_loss": 0.25},
            "progress  1/4  matching loss 0.25",
        ),
        ("progress", {}, "progress  0/0"),
        ("checkpoint", {"sha256": "abc"}, "checkpoint  sha256 abc"),
        ("cancel", {}, "stop requested"),
        ("something new", {}, "something new"),
    ):
        assert logs.format_event(Event(1, at, kind, data)).endswith(text)
