"""services.cli.output.console and what it shows: tables on a terminal of 100 columns, and in a
pipe."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Callable

import pytest

from services.cli.commands import listing, logs
from services.cli.output import console, progress
from services.cli.output.console import escape_unprintable, fit_widths, print_table
from services.client import Audit, Event, Job, Update

LONG = "Search the image whose loss gradient points where the weights moved, from several starts, and keep the best."
JOBS = [
    Job(
        f"job_{i:020}",
        stage,
        state,
        method=method,
        progress={"done": 1, "total": 20},
        message=message,
    )
    for i, (stage, method, state, message) in enumerate(
        [
            ("attack", "label_inference_black_box", "succeeded", None),
            ("evaluate", None, "running", None),
            (
                "unlearn",
                "gradient_ascent",
                "failed",
                "2 deletions of 9 need more than the 8 samples there are",
            ),
        ]
    )
]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """What a call prints on a terminal of 100 columns, by line."""
    monkeypatch.setenv("TERM", "xterm")

    def shown(call: Callable[..., None], *arguments: object, columns: int = 100) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(columns))
        screen = io.StringIO()
        screen.isatty = lambda: True  # type: ignore[method-assign]
        with contextlib.redirect_stdout(screen):
            call(*arguments)
        lines = [
            line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue()).splitlines()
        ]
        assert all(len(line) <= 100 for line in lines), lines
        return lines

    return shown


@pytest.mark.parametrize(
    ("natural", "least", "room", "widths"),
    [
        ([10, 20], [10, 5], 40, [10, 20]),
        ([10, 20], [10, 5], 22, [10, 12]),
        ([10, 20, 18], [10, 5, 5], 30, [10, 10, 10]),
        ([10, 20], [10, 5], 3, [10, 5]),
        ([], [], 3, []),
    ],
)
def test_only_what_may_shrink_does_and_the_widest_first(natural, least, room, widths):
    assert fit_widths(natural, least, room) == widths


def test_names_are_whole_and_sentences_go_on_below(terminal):
    rows = [
        ["label_inference_black_box", LONG, "ORIGINAL, UNLEARNED, PROBES"],
        ["invert", "Short.", ""],
    ]
    out = terminal(print_table, ["attack", "summary", "needs"], rows)
    assert out[2].startswith("label_inference_black_box  Search the image")
    assert "…" not in "".join(out)
    assert " ".join(word for line in out[2:] for word in line.split()).count("weights moved") == 1


def test_no_job_is_cut(terminal):
    out = terminal(listing._print_job_table, JOBS)
    assert "message" not in out[0]
    for job, line in zip(JOBS, out[2:5], strict=True):
        assert line.split()[:5] == [job.id, job.stage, job.method or "-", "0", job.state]
    assert out[5:] == ["", f"{JOBS[2].id}  {JOBS[2].message}"]


def test_what_a_job_made_keeps_its_digest(terminal):
    made = {"sha256": "a" * 64, "size": 48_000, "media_type": "application/octet-stream"}
    given = {role: {"job": f"job_{'0' * 20}", "role": role} for role in ("BASE", "DELETION_SIZES")}
    body = {"id": "job_1", "stage": "evaluate", "state": "succeeded", "inputs": given}
    for columns in (100, 80):  # the terminal breaks the line; nothing is cut out of it
        out = terminal(
            listing._print_job,
            Job.from_json({**body, "artifacts": {"RECONSTRUCTION": made}}),
            columns=columns,
        )
        assert out[-1] == f"RECONSTRUCTION  46.9 KiB  {'a' * 64}"
    assert [line.split()[-1] for line in out if " from " in line] == [
        f"job_{'0' * 20}:{r}" for r in ("BASE", "DELETION_SIZES")
    ]


def test_in_a_pipe_a_row_is_a_line_with_every_column(capsys):
    listing._print_job_table(JOBS)
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 4
    assert out[0].split() == [
        "job",
        "stage",
        "method",
        "seed",
        "state",
        "progress",
        "age",
        "message",
    ]
    print_table(["attack", "summary"], [["invert", LONG * 4]])
    assert len(capsys.readouterr().out.splitlines()) == 2


# clears the screen; sets the title; turns what follows around; a C1 control; what is not seen; a
# line of its own
HOSTILE = "\x1b[2J\x1b]0;mine\x07 \u202etxt.exe\u2066 \x9b31m \u200b\ufeff\u2028 \x7f [red]x[/] :boom: \r\n"
SHOWN = (
    r"\x1b[2J\x1b]0;mine\x07 \u202etxt.exe\u2066 \x9b31m \u200b\ufeff\u2028 \x7f [red]x[/] :boom: \r\n"
)  # fmt: skip
BODY = {
    "id": "job_1",
    "stage": HOSTILE,
    "state": HOSTILE,
    "message": HOSTILE,
    "failure": "error",
    "worker": HOSTILE,
}
UPDATE = Update(
    "job_1", "job", HOSTILE, "failed", 1, 2, is_final=True, failure="error", message=HOSTILE
)


@pytest.mark.parametrize(
    "show",
    [
        lambda: listing._print_job_table([Job.from_json(BODY)]),
        lambda: listing._print_job(Job.from_json({**BODY, "params": {"x": HOSTILE}})),
        lambda: listing._print_audit(Audit.from_json({"id": "aud_1", "name": HOSTILE, "state": HOSTILE})),
        lambda: console.stdout_console().print(logs.format_event(Event.from_json({
            "seq": 1, "kind": "state", "at": "2026-01-01T00:00:00Z", "data": {"to": HOSTILE, "message": HOSTILE},
        }))),
        lambda: progress.PlainLinesDisplay().show(UPDATE),
        lambda: progress.ProgressBarDisplay().show(UPDATE),
        lambda: console.print_note(HOSTILE),
        lambda: console.stdout_console().print(f"[b]{HOSTILE}[/]"),  # forgotten
    ],
)  # fmt: skip
def test_what_a_terminal_would_obey_is_shown_as_text(show, terminal, capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    show()
    out, err = capfd.readouterr()
    assert r"\x1b[2J\x1b]0;mine\x07 \u202etxt.exe" in out + err
    assert all(c.isprintable() or c == "\n" for c in out + err), repr(out + err)
    assert "😀" not in out


def test_what_is_visible_stays_and_a_line_is_one_line():
    assert escape_unprintable("Größe 10 µm, ψ → 漢字 😀 \\x1b") == "Größe 10 µm, ψ → 漢字 😀 \\x1b"
    assert escape_unprintable(HOSTILE) == SHOWN
    assert escape_unprintable("one\ntwo\x1b", keep="\n") == "one\ntwo\\x1b"


def test_json_is_the_same_value_and_moves_no_cursor(capsys):
    console.print_json({"name": HOSTILE, "Größe": "😀"})
    out = capsys.readouterr().out
    assert json.loads(out) == {"name": HOSTILE, "Größe": "😀"}
    assert "Größe" in out
    assert all(c.isprintable() or c == "\n" for c in out)
