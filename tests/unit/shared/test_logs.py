"""One line an event, on standard error."""

from __future__ import annotations

import json
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
