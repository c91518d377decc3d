"""A stage for tests of the engine: it sleeps, checkpoints, and can be made to misbehave."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import torch
from pydantic import Field
from shared.plugins import Params
from workers.context import JobContext, StageOutput
from workers.stages import registry


class SleepParams(Params):
    steps: int = Field(0, ge=0, le=100_000, description="how many times to sleep")
    seconds: float = Field(0.0, ge=0, le=600, description="how long each time")
    fail: str = Field("", description="what to raise at the end: any text fails the job with it")
    die: bool = Field(False, description="kill the process at the last step")
    deaf: bool = Field(False, description="sleep all at once, without saying that it lives")
    tag: str = Field("", description="makes jobs differ")
    effects: str = Field("", description="file to which one line is appended when the work is done")
    gate: str = Field(
        "", description="file that the last step waits for, checkpointing all the while"
    )
    hurry: str = Field(
        "", description="file that ends the sleeping: once it is there, steps take no time"
    )
    ledger: str = Field(
        "",
        description="file to which a JSON line is appended when the work is done: tag and digest",
    )


@registry.register(
    "sleep", params=SleepParams, uses=("SLEPT",), produces=("SLEPT",), stall_timeout_s=30
)
def run(ctx: JobContext) -> dict[str, StageOutput]:
    """Sleep for some steps."""
    p: SleepParams = ctx.params
    done, checkpoint = ctx.load_checkpoint() or (0, {"sum": torch.zeros(())})
    total = checkpoint["sum"]
    if p.deaf:
        time.sleep(p.steps * p.seconds)
    for step in range(done, p.steps):
        while p.gate and step == p.steps - 1 and not Path(p.gate).exists():
            time.sleep(0.05)
            ctx.report_progress(step, p.steps, loss=float(total))
            if ctx.is_checkpoint_due():
                ctx.save_checkpoint(step, {"sum": total})
        if not p.deaf and not (p.hurry and Path(p.hurry).exists()):
            time.sleep(p.seconds)
        total = total + torch.rand((), generator=ctx.make_generator(f"step {step}"))
        ctx.report_progress(step + 1, p.steps, loss=float(total))
        if ctx.is_checkpoint_due():
            ctx.save_checkpoint(step + 1, {"sum": total})
    if p.die:
        os.kill(os.getpid(), 9)
    if p.fail:
        raise RuntimeError(p.fail)
    if p.effects:
        with Path(p.effects).open("a") as file:
            file.write(f"{p.tag}\n")
    output = StageOutput.of_json({"sum": float(total), "tag": p.tag, "steps": p.steps})
    if p.ledger:
        line = {
            "tag": p.tag,
            "sha256": hashlib.sha256(output.data).hexdigest(),
            "pid": os.getpid(),
            "at": time.time(),
        }
        # one write of less than a page: lines of several workers do not mix
        with Path(p.ledger).open("a") as file:
            file.write(json.dumps(line) + "\n")
    return {"SLEPT": output}
