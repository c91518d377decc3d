"""GPUs that are not there: what `torch.cuda` answers on a machine that has some. Nothing can be
computed on them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import torch

GIB = 1 << 30


@dataclass
class FakeCuda:
    """The devices that a process sees.

    `kinds` and `uuids` in the order of their indexes; `free_bytes` and `reserved_bytes` of each.
    """

    kinds: list[str]
    uuids: list[uuid.UUID]
    memory_bytes: int = 80 * GIB
    free_bytes: int = 70 * GIB
    reserved_bytes: int = 0
    current: int = 0
    shares: dict[int, float] = field(default_factory=dict)  # of the process, by index
    emptied: list[int] = field(default_factory=list)  # the current device at each `empty_cache`

    def get_properties(self, index: int) -> SimpleNamespace:
        return SimpleNamespace(
            name=self.kinds[index], total_memory=self.memory_bytes, uuid=self.uuids[index]
        )

    def limit(self, share: float, index: int) -> None:
        self.shares[index] = share

    def select(self, index: int) -> None:
        self.current = index


def make_cuda(monkeypatch: pytest.MonkeyPatch, *kinds: str) -> FakeCuda:
    """Devices of these kinds, with UUIDs of their own."""
    cuda = FakeCuda(list(kinds), [uuid.UUID(int=n + 1) for n in range(len(kinds))])
    for name, answer in {
        "is_available": lambda: bool(cuda.kinds),
        "device_count": lambda: len(cuda.kinds),
        "get_device_properties": cuda.get_properties,
        "current_device": lambda: cuda.current,
        "set_device": cuda.select,
        "empty_cache": lambda: cuda.emptied.append(cuda.current),
        "mem_get_info": lambda _device=None: (cuda.free_bytes, cuda.memory_bytes),
        "memory_reserved": lambda _device=None: cuda.reserved_bytes,
        "memory_allocated": lambda _device=None: 0,
        "get_per_process_memory_fraction": lambda device: cuda.shares.get(device.index, 1.0),
        "set_per_process_memory_fraction": cuda.limit,
        "max_memory_allocated": lambda _device=None: 3 * GIB,
        "reset_peak_memory_stats": lambda _device=None: None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    return cuda
