"""What a figure of the engine was measured under: machine, load, what the disk allows."""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path("benchmarks/results")
DISK = "/var/tmp"  # a disk, where /tmp may be memory


def syncs_per_s(seconds: float = 1.0) -> float:
    """Durable writes of 4 KiB a second to one file: the most that one client can commit."""
    with tempfile.TemporaryFile(dir=DISK) as file:
        done, until = 0, time.perf_counter() + seconds
        while time.perf_counter() < until:
            os.pwrite(file.fileno(), b"x" * 4096, 0)
            os.fdatasync(file.fileno())
            done += 1
    return done / seconds


def conditions() -> dict[str, Any]:
    """Machine, versions, load average, rate of syncs, now."""
    return {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_average": [round(x, 2) for x in os.getloadavg()],
        "syncs_per_s": round(syncs_per_s()),
    }


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """As Markdown."""
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(str(v) for v in row.values()) + " |")


def write(name: str, about: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
    """Into the folder of results, as JSON."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"engine-{name}.json").write_text(json.dumps({"conditions": about, "rows": rows}, indent=2) + "\n")
    print("  ".join(f"{key} {value}" for key, value in about.items()))
