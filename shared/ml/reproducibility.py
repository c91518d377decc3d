"""The conditions under which numbers repeat."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import torch


def collect_conditions(device: torch.device) -> dict[str, Any]:
    """Versions, device and CPU models, threads. No time and no host name: they go into
    artifacts."""
    return {
        "torch": version("torch"),
        "python": platform.python_version(),
        "device": device.type,
        "machine": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }
