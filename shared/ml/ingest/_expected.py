"""What the weights of an architecture look like, without allocating any."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from shared.ml.networks import Architecture, build_network


@dataclass(frozen=True)
class TensorMap:
    """The tensors of a network's state dict, by name, in its order."""

    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, torch.dtype]
    parameters: tuple[str, ...]  # in the network's order; a tied one under each of its names
    statistics: frozenset[str]  # running means and variances of normalisation layers
    counters: frozenset[str]  # `num_batches_tracked`, where no output depends on it
    tied: tuple[tuple[str, ...], ...]  # groups of names of one tensor

    @property
    def duplicates(self) -> frozenset[str]:
        """Names of tensors that are there under an earlier name too."""
        return frozenset(name for group in self.tied for name in group[1:])


def map_tensors(architecture: Architecture) -> TensorMap:
    """The tensors that `build_network(architecture)` has.

    Raises:
        InvalidRequest: no such model, or its parameters do not fit the input.
    """
    with torch.device("meta"):
        network = build_network(architecture)
    state = network.state_dict()
    parameters = dict(network.named_parameters(remove_duplicate=False))
    tensors = parameters | dict(network.named_buffers(remove_duplicate=False))
    groups: dict[int, list[str]] = {}
    for name in state:
        groups.setdefault(id(tensors[name]), []).append(name)
    return TensorMap(
        shapes={name: tuple(tensor.shape) for name, tensor in state.items()},
        dtypes={name: tensor.dtype for name, tensor in state.items()},
        parameters=tuple(name for name in parameters if name in state),
        statistics=frozenset(
            f"{path}.{kind}"
            for path, layer in _list_norms(network)
            for kind in ("running_mean", "running_var")
        ),
        # without a momentum, the counter weighs the next batch's statistics
        counters=frozenset(
            f"{path}.num_batches_tracked"
            for path, layer in _list_norms(network)
            if layer.momentum is not None
        ),
        tied=tuple(tuple(group) for group in groups.values() if len(group) > 1),
    )


def _list_norms(network: nn.Module) -> list[tuple[str, _NormBase]]:
    """Normalisation layers that keep statistics of what they have seen."""
    return [
        (path, layer)
        for path, layer in network.named_modules(remove_duplicate=False)
        if isinstance(layer, _NormBase) and layer.running_mean is not None
    ]
