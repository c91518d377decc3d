"""Networks made one after another; the finished ones are the checkpoint."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from shared.ml.networks import Architecture, Networks
from workers.context import JobContext

_NETWORK, _NUMBERS = "network.", "numbers"  # of the checkpoint's tensors


def make_with_checkpoints(
    ctx: JobContext,
    architecture: Architecture,
    count: int,
    make: Callable[[list[nn.Module]], nn.Module],
    numbers: list[float] | None = None,
) -> list[nn.Module]:
    """Make `count` networks on the CPU. `make` gets the earlier ones; a resumed job does not repeat
    them.

    Args:
        numbers: empty; `make` may append to it, and it is saved and restored with the networks.
    """
    numbers = [] if numbers is None else numbers
    finished = _load_finished(ctx, architecture, numbers)
    for index in range(len(finished), count):
        finished.append(make(finished).cpu())
        if ctx.is_checkpoint_due():
            states = [network.state_dict() for network in finished]
            stacked = {
                f"{_NETWORK}{name}": torch.stack([s[name] for s in states]) for name in states[0]
            }
            ctx.save_checkpoint(
                index + 1, stacked | {_NUMBERS: torch.tensor(numbers, dtype=torch.float64)}
            )
    return finished


def _load_finished(
    ctx: JobContext, architecture: Architecture, numbers: list[float]
) -> list[nn.Module]:
    checkpoint = ctx.load_checkpoint()
    if checkpoint is None:
        return []
    done, tensors = checkpoint
    numbers += tensors.pop(_NUMBERS).tolist()
    state = {name.removeprefix(_NETWORK): tensor for name, tensor in tensors.items()}
    return [Networks(architecture, state, done).load_network(i) for i in range(done)]
