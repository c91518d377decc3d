"""A stage for tests of memory: it takes some, in one of several ways, and can be killed while it
has it."""

from __future__ import annotations

import mmap
import os

import numpy as np
import torch
from pydantic import Field
from shared.plugins import Params
from workers.context import JobContext, StageOutput
from workers.stages import registry

STEP_BYTES = 16 << 20


class AllocateParams(Params):
    bytes: int = Field(0, ge=0, description="how much to take in all")
    how: str = Field(
        "bytearray",
        description="bytearray, numpy, torch, or shared: memory that no allocation limit counts",
    )
    die: bool = Field(False, description="kill the process while it has it")


@registry.register("take", params=AllocateParams, produces=("TAKEN",))
def run(ctx: JobContext) -> dict[str, StageOutput]:
    """Take memory, touch it, and let it go."""
    p: AllocateParams = ctx.params
    make = {
        "bytearray": lambda n: bytearray(b"x" * n),
        "numpy": lambda n: np.ones(n, dtype=np.uint8),
        "torch": lambda n: torch.ones(n, dtype=torch.uint8),
        "shared": _map_shared,
    }[p.how]
    pieces = []
    for offset in range(0, p.bytes, STEP_BYTES):
        pieces.append(make(min(STEP_BYTES, p.bytes - offset)))
        ctx.report_progress(offset + STEP_BYTES, p.bytes)
    if p.die:
        os.kill(os.getpid(), 9)
    return {"TAKEN": StageOutput.of_json({"pieces": len(pieces)})}


def _map_shared(n: int) -> mmap.mmap:
    mapping = mmap.mmap(-1, n)
    mapping.write(b"x" * n)
    return mapping
