"""One line an event, on standard error."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys

PROGRAM = """
import structlog
from shared import logs
logs.setup()
structlog.get_logger().info("it happened", job="job_a", seconds=1.5)
try:
    1 / 0
except ZeroDivisionError:
    structlog.get_logger().exception("it broke")
"""


def test_a_process_that_nobody_looks_at_logs_json() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    one, two = (json.loads(line) for line in done.stderr.splitlines())
    assert (one["event"], one["level"], one["job"], one["seconds"]) == ("it happened", "info", "job_a", 1.5)
    assert one["timestamp"].endswith("Z")
    assert "ZeroDivisionError" in two["exception"]
    assert done.stdout == ""


def test_a_terminal_is_told_nothing_that_it_would_obey() -> None:
    ours, theirs = pty.openpty()
    hostile = "\\x1b[2J \\u202etxt.exe \\x9b31m \\n it is well"
    program = (
        PROGRAM.replace("it happened", hostile).replace("job_a", hostile).replace("1 / 0", f'1 / (not "{hostile}")')
    )
    done = subprocess.Popen([sys.executable, "-c", program], stderr=theirs, env={**os.environ, "TERM": "xterm"})
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
