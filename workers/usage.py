"""What one attempt took: seconds, processor seconds and memory of this process."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import torch

from shared.jobs.records import JobCost
from workers.memory import read_peak_bytes

_RESET_PEAK = "5"  # to clear_refs: the peak of resident memory is what is resident now


def read_device_memory() -> int | None:
    """What this process has reserved of its accelerator's memory, in bytes; None without one."""
    return torch.cuda.memory_reserved() if torch.cuda.is_available() else None


class UsageMeter:
    """Measures from when it is made."""

    def __init__(self) -> None:
        self._knows_peak = False
        with suppress(OSError):  # in a container that may not write to it
            Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
            self._knows_peak = True
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self._started_at, self._cpu_started_at = time.monotonic(), time.process_time()

    def read(self) -> JobCost:
        """What it was until now."""
        return JobCost(
            run_s=time.monotonic() - self._started_at,
            cpu_s=time.process_time() - self._cpu_started_at,
            memory_bytes=read_peak_bytes() if self._knows_peak else None,
            device_memory_bytes=torch.cuda.max_memory_allocated()
            if torch.cuda.is_available()
            else None,
        )
