"""The state of torch's optimisers as the plain tensors that a checkpoint holds."""

from __future__ import annotations

from torch import Tensor
from torch.optim import Optimizer

Held = dict[int, dict[str, Tensor]]


def write_state(optimiser: Optimizer) -> dict[str, Tensor]:
    """All that it holds of its parameters, by their place and its own names: `0.momentum_buffer`."""
    state: Held = optimiser.state_dict()["state"]
    return {f"{place}.{name}": t for place, held in state.items() for name, t in held.items() if t is not None}


def read_state(optimiser: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `write_state` gave, as copies. Learning rates and the like stay as they are."""
    state: Held = {}
    for at, tensor in tensors.items():
        place, _, name = at.partition(".")
        state.setdefault(int(place), {})[name] = tensor.clone()
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
