"""One line an event, on standard error."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys

import pytest

PROGRAM = """
import structlog
from shared import logs
logs.configure_logging()
structlog.get_logger().info("it happened", job="job_a", seconds=1.5, at="/x/" + 64 * "a" + "/y")
try:
    1 / 0
except ZeroDivisionError:
    structlog.get_logger().exception("it broke")
"""


def test_a_process_that_nobody_looks_at_logs_json() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    one, two = (json.loads(line) for line in done.stderr.splitlines())
    assert (one["event"], one["level"], one["job"], one["seconds"]) == (
        "it happened",
        "info",
        "job_a",
        1.5,
    )
    assert one["at"] == f"/x/{12 * 'a'}…/y"  # digests are not kept in full
    assert one["timestamp"].endswith("Z")
    assert "ZeroDivisionError" in two["exception"]
    assert done.stdout == ""


def test_a_terminal_is_told_nothing_that_it_would_obey() -> None:
    ours, theirs = pty.openpty()
    hostile = "\\x1b[2J \\u202etxt.exe \\x9b31m \\n it is well"
    program = (
        PROGRAM.replace("it happened", hostile)
        .replace("job_a", hostile)
        .replace("1 / 0", f'1 / (not "{hostile}")')
    )
    done = subprocess.Popen(
        [sys.executable, "-c", program], stderr=theirs, env={**os.environ, "TERM": "xterm"}
    )
    os.close(theirs)
    said = b""
    try:
        while chunk := os.read(ours, 4096):
            said += chunk
    except OSError:  # a terminal whose program has ended
        pass
    assert done.wait() == 0
    os.close(ours)
    text = re.sub(r"\x1b\[[0-9;]*m", "", said.decode()).replace("\r\n", "\n")
    assert r"\x1b[2J \u202etxt.exe \x9b31m \n it is well" in text.splitlines()[0]
    assert "ZeroDivisionError" in text
    assert all(c.isprintable() or c == "\n" for c in text), repr(text)


@pytest.mark.parametrize("gone", ["reader", "disk"])
def test_a_log_that_cannot_be_written_fails_nothing(gone: str) -> None:
    """As when a supervisor has closed its end of the pipe, or the disk of the logs is full."""
    program = (
        PROGRAM
        + "structlog.get_logger().warning('x' * 100_000)\nprint('alive', flush=True)\nimport os; os._exit(0)"
    )
    theirs, ours = os.pipe()
    os.close(theirs)
    with open(ours, "wb") as broken, open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            stderr=broken if gone == "reader" else full,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stdout) == (0, "alive\n")
