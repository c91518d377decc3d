"""What is waited for, and what is not. The programs are real processes under a real parent, as
under a supervisor."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from deploy.local.startup import MAX_DEATHS, StartupMonitor
from tests.support.system import wait_for
from tests.support.waiting import TIMEOUT_S

# starts each line of its input as a program named worker-a-1, and again when that ends
SUPERVISOR = """
import subprocess, sys
while True:
    subprocess.run([sys.executable, "-c", sys.argv[1], "worker-a-1@here"])
"""
NAME = "worker-a-1"


@pytest.fixture
def started() -> Iterator[Callable[[str], int]]:
    made: list[subprocess.Popen[bytes]] = []

    def start(code: str) -> int:
        made.append(subprocess.Popen([sys.executable, "-c", SUPERVISOR, code]))
        return made[-1].pid

    yield start
    for process in made:
        family = [
            psutil.Process(process.pid),
            *psutil.Process(process.pid).children(recursive=True),
        ]
        for member in family:
            member.kill()
        process.wait()


def look(startup: StartupMonitor) -> str | None:
    time.sleep(0.02)
    return startup.check({NAME})


@pytest.mark.slow
def test_one_that_computes_is_waited_for(started: Callable[[str], int], tmp_path: Path) -> None:
    startup = StartupMonitor(started("while True: pass"), tmp_path, idle_timeout_s=10)
    wait_for(
        lambda: look(startup) is None and startup.programs[NAME].cpu_s > 3,
        TIMEOUT_S,
        "it has computed",
    )
    assert startup.programs[NAME].deaths == 0


def test_one_that_writes_to_its_log_is_waited_for(
    started: Callable[[str], int], tmp_path: Path
) -> None:
    startup = StartupMonitor(started("import time; time.sleep(600)"), tmp_path, idle_timeout_s=0.5)
    for n in range(60):
        (tmp_path / f"{NAME}.log").write_text("x" * n)
        assert look(startup) is None


def test_one_that_does_nothing_is_given_up(started: Callable[[str], int], tmp_path: Path) -> None:
    startup = StartupMonitor(started("import time; time.sleep(600)"), tmp_path, idle_timeout_s=0.5)
    why = wait_for(lambda: look(startup), TIMEOUT_S, "it is given up")
    assert why == "worker-a-1 did not start, and was idle for 0.5 s"


def test_one_that_is_not_even_started_is_given_up(
    started: Callable[[str], int], tmp_path: Path
) -> None:
    startup = StartupMonitor(started("import time; time.sleep(600)"), tmp_path, idle_timeout_s=0.5)
    assert wait_for(lambda: startup.check({"gateway"}), TIMEOUT_S, "it is given up").startswith(
        "gateway did not start"
    )


def test_one_that_dies_again_and_again_is_given_up(
    started: Callable[[str], int], tmp_path: Path
) -> None:
    startup = StartupMonitor(started("import time; time.sleep(0.3)"), tmp_path)
    why = wait_for(lambda: look(startup), TIMEOUT_S, "it is given up")
    assert why == f"worker-a-1 died {MAX_DEATHS} times while starting"


@pytest.mark.slow
def test_one_whose_child_dies_again_and_again_is_given_up(
    started: Callable[[str], int], tmp_path: Path
) -> None:
    child = "import time\\nwhile time.process_time() < 1.3: pass"
    parent = (
        f"import subprocess, sys\nwhile True: subprocess.run([sys.executable, '-c', '{child}'])"
    )
    startup = StartupMonitor(started(parent), tmp_path)
    wait_for(lambda: look(startup), TIMEOUT_S, "it is given up")
    assert startup.programs[NAME].deaths == MAX_DEATHS


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_one_line_that_changes_and_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    out = Terminal()
    startup = StartupMonitor(1, tmp_path, out=out)
    for seconds in (3, 6):
        startup.check({NAME})
        startup._last_look = startup._started_at + seconds
        startup.report_progress({NAME, "gateway", "worker-b-1", "worker-c-1"})
    lines = out.getvalue().replace("\x1b[K", "").split("\r")
    assert lines[1:] == [
        f"palimpsest: {n} s, 0 s of CPU; waiting for gateway, worker-a-1"[:59] for n in (3, 6)
    ]
    startup.end_line()
    assert out.getvalue().endswith("\r\x1b[K")


def test_a_file_has_lines_now_and_then(tmp_path: Path) -> None:
    out = io.StringIO()
    startup = StartupMonitor(1, tmp_path, out=out)
    for seconds in (3, 31, 40, 62):
        startup._last_look = startup._started_at + seconds
        startup.report_progress({NAME})
    assert out.getvalue().count("s of CPU; waiting for worker-a-1\n") == 2
    assert out.getvalue().endswith("\n")
