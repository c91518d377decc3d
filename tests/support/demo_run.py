"""`make demo` from a folder of the test's own, with the processor time that it takes."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.support.local_serve import make_clean_env


class DemoRun(NamedTuple):
    """How a run ended. Seconds of processor time are those of all its processes: unlike seconds of
    the clock, they hardly depend on what else the machine does."""

    status: int
    output: str
    cpu_s: float


def run_demo(folder: Path, audit: Path, *arguments: str, timeout_s: float = 3000) -> DemoRun:
    """Run an audit as `make demo` does; `folder` is the working directory, and keeps `.palimpsest`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "deploy.local.demo", "--audit", str(audit), *arguments],
        cwd=folder,
        env=make_clean_env(),
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return DemoRun(done.returncode, done.stdout + done.stderr, cpu_s)
