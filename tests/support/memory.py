"""How much memory something takes at its peak."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROCESS = Path("/proc/self")


@dataclass
class PeakMemory:
    """MiB above what the process held before, once the context has ended."""

    mib: float = 0.0


@contextmanager
def measure_peak_memory() -> Iterator[PeakMemory]:
    """Measures this process's resident memory, whoever allocates it."""
    (PROCESS / "clear_refs").write_text("5")  # the peak is now what is held now
    before_mib, peak = _read_status("VmRSS"), PeakMemory()
    try:
        yield peak
    finally:
        peak.mib = max(0.0, _read_status("VmHWM") - before_mib)


def _read_status(name: str) -> float:
    lines = (PROCESS / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024
