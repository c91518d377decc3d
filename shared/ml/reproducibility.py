"""The conditions under which numbers repeat."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import torch


def conditions(device: torch.device) -> dict[str, Any]:
    """Versions, kind of device and threads. No time, no name of a machine: it goes into artifacts."""
    return {
        "torch": version("torch"),
        "python": platform.python_version(),
        "device": device.type,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
    }
