"""The conditions under which numbers repeat."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import torch


@contextmanager
def full_precision() -> Iterator[None]:
    """What is float32 is computed as float32 in here: no TF32 in the products and convolutions of a
    GPU, which keeps 10 of 23 bits and is on by default for convolutions, and no autocast to bfloat16
    or float16. Also usable as a decorator. On the CPU nothing changes.

    A matching loss compares gradients that differ in their last digits.
    """
    precision, allows_tf32 = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")  # matmul.allow_tf32, under its other name
    torch.backends.cudnn.allow_tf32 = False
    try:
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = allows_tf32


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
