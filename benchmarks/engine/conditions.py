"""The conditions of an engine benchmark: machine, load, sync rate of the disk."""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS_FOLDER = Path("benchmarks/results")
DISK_FOLDER = "/var/tmp"  # a disk, where /tmp may be memory


def measure_syncs_per_s(seconds: float = 1.0) -> float:
    """Durable writes of 4 KiB per second to one file: the limit for the commits of one client."""
    with tempfile.TemporaryFile(dir=DISK_FOLDER) as file:
        count, deadline = 0, time.perf_counter() + seconds
        while time.perf_counter() < deadline:
            os.pwrite(file.fileno(), b"x" * 4096, 0)
            os.fdatasync(file.fileno())
            count += 1
    return count / seconds


def describe_conditions() -> dict[str, Any]:
    """The current conditions: machine, versions, load average, sync rate."""
    return {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_average": [round(x, 2) for x in os.getloadavg()],
        "syncs_per_s": round(measure_syncs_per_s()),
    }


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Print the rows as a Markdown table."""
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(str(v) for v in row.values()) + " |")


def write_results(
    name: str, measured_under: dict[str, Any], rows: Sequence[dict[str, Any]]
) -> None:
    """Write the rows into the results folder, as JSON."""
    RESULTS_FOLDER.mkdir(parents=True, exist_ok=True)
    (RESULTS_FOLDER / f"engine-{name}.json").write_text(
        json.dumps({"conditions": measured_under, "rows": rows}, indent=2) + "\n"
    )
    print("  ".join(f"{key} {value}" for key, value in measured_under.items()))
