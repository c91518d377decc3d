"""Networks made one after another, where those that are finished are the checkpoint."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from shared.ml.networks import Architecture, Networks
from workers.context import JobContext


def one_by_one(
    ctx: JobContext, architecture: Architecture, count: int, make: Callable[[list[nn.Module]], nn.Module]
) -> list[nn.Module]:
    """`count` networks on the CPU. `make` is given those before; an interrupted job makes none of them again."""
    finished = _resume(ctx, architecture)
    for which in range(len(finished), count):
        finished.append(make(finished).cpu())
        if ctx.due():
            states = [network.state_dict() for network in finished]
            ctx.save(which + 1, {name: torch.stack([s[name] for s in states]) for name in states[0]})
    return finished


def _resume(ctx: JobContext, architecture: Architecture) -> list[nn.Module]:
    found = ctx.resume()
    if found is None:
        return []
    done, state = found
    return [Networks(architecture, state, done).network(i) for i in range(done)]
