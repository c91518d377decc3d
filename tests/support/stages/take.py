"""A stage for tests of memory: it takes some, in one of several ways, and can be killed while it has it."""

from __future__ import annotations

import mmap
import os

import numpy as np
import torch
from pydantic import Field
from shared.plugins import Params
from workers.context import JobContext, Output
from workers.stages import registry

STEP = 16 << 20


class TakeParams(Params):
    bytes: int = Field(0, ge=0, description="how much to take in all")
    how: str = Field(
        "bytearray", description="bytearray, numpy, torch, or shared: memory that no allocation limit counts"
    )
    die: bool = Field(False, description="kill the process while it has it")


@registry.register("take", params=TakeParams, produces=("TAKEN",))
def run(ctx: JobContext) -> dict[str, Output]:
    """Take memory, touch it, and let it go."""
    p: TakeParams = ctx.params
    make = {
        "bytearray": lambda n: bytearray(b"x" * n),
        "numpy": lambda n: np.ones(n, dtype=np.uint8),
        "torch": lambda n: torch.ones(n, dtype=torch.uint8),
        "shared": _shared,
    }[p.how]
    kept = []
    for taken in range(0, p.bytes, STEP):
        kept.append(make(min(STEP, p.bytes - taken)))
        ctx.progress(taken + STEP, p.bytes)
    if p.die:
        os.kill(os.getpid(), 9)
    return {"TAKEN": Output.of_json({"pieces": len(kept)})}


def _shared(n: int) -> mmap.mmap:
    made = mmap.mmap(-1, n)
    made.write(b"x" * n)
    return made
