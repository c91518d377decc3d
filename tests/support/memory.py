"""How much memory something takes at its peak."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROCESS = Path("/proc/self")


@dataclass
class Peak:
    """MiB above what the process held before, once the context has ended."""

    mib: float = 0.0


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Measures this process's resident memory, whoever allocates it."""
    (PROCESS / "clear_refs").write_text("5")  # the peak is now what is held now
    before, found = _status("VmRSS"), Peak()
    try:
        yield found
    finally:
        found.mib = max(0.0, _status("VmHWM") - before)


def _status(name: str) -> float:
    lines = (PROCESS / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024
