"""`python -m benchmarks.fleet.start_up`: how long a worker takes from the start of its process until it
takes jobs: torch, plugins, catalog, registration. Within a minute."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.engine.conditions import (
    DISK_FOLDER,
    describe_conditions,
    print_table,
    write_results,
)
from deploy.local.layout import WORKER_GROUPS
from tests.support.source_tree import ROOT
from tests.support.system import System

STARTS = 5


def main() -> None:
    """Print the table, and write it into the results folder."""
    conditions = describe_conditions()
    with tempfile.TemporaryDirectory(dir=DISK_FOLDER) as folder:
        system = System(Path(folder), ROOT)
        try:
            seconds = [measure_start(system, f"worker-{n}") for n in range(STARTS)]
        finally:
            system.close()
    row = {
        "starts": STARTS,
        "median_s": round(statistics.median(seconds), 2),
        "fastest_s": round(min(seconds), 2),
        "slowest_s": round(max(seconds), 2),
    }
    print_table([row])
    write_results("start-up", conditions, [row])


def measure_start(system: System, name: str) -> float:
    """Seconds until one worker is registered and has its lease process; it is stopped then."""
    started_at = time.perf_counter()
    process = system.start_worker(",".join(WORKER_GROUPS["attack"]), name)
    seconds = time.perf_counter() - started_at
    process.terminate()
    process.wait()
    return seconds


if __name__ == "__main__":
    main()
