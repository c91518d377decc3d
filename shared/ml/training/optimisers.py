"""The state of torch's optimisers as the plain tensors that a checkpoint holds."""

from __future__ import annotations

from torch import Tensor
from torch.optim import Optimizer

ParameterStates = dict[int, dict[str, Tensor]]


def flatten_state(optimiser: Optimizer) -> dict[str, Tensor]:
    """The state of its parameters, by their index and its own names: `0.momentum_buffer`."""
    state: ParameterStates = optimiser.state_dict()["state"]
    return {
        f"{index}.{name}": t
        for index, parameter_state in state.items()
        for name, t in parameter_state.items()
        if t is not None
    }


def restore_state(optimiser: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Restore the result of `flatten_state`, as copies. Learning rates and the like are
    unchanged."""
    state: ParameterStates = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = tensor.clone()
    optimiser.load_state_dict(
        {"state": state, "param_groups": optimiser.state_dict()["param_groups"]}
    )
