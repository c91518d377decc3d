"""A network as data: its architecture, and the artifact that holds the weights of one or of many.

Normalisation is the first layer of every network, so an image outside a network is always in [0,
1].
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from shared.compatibility import MAX_FEATURES, incompatibility_reason
from shared.errors import InvalidRequest
from shared.ml.models import registry
from shared.ml.tensors import read_tensors, write_tensors
from shared.plugin_ref import PluginRef, resolve_plugin, validate_model


class Architecture(BaseModel):
    """All that is needed to build a network, except its weights."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: PluginRef
    input_shape: tuple[int, int, int] = Field(
        description="C, H, W; a table of F features is F, 1, 1"
    )
    num_classes: int = Field(ge=2, le=1000)
    mean: tuple[float, ...] = Field(description="per channel, of images in [0, 1]")
    std: tuple[float, ...] = Field(description="per channel, above 0")
    members: int = Field(
        1, ge=1, le=100, description="above 1: an ensemble of this many networks (SISA)"
    )

    @property
    def member_architecture(self) -> Architecture:
        """The architecture of each member."""
        return self.model_copy(update={"members": 1})

    @model_validator(mode="after")
    def _check_shapes(self) -> Architecture:
        channels, height, width = self.input_shape
        most = MAX_FEATURES if height == width == 1 else 4
        if not (1 <= channels <= most and 1 <= height <= 512 and 1 <= width <= 512):
            raise ValueError(
                "input_shape must be 1 to 4 channels of at most 512 x 512 pixels, or at most "
                f"{MAX_FEATURES}, 1, 1"
            )
        if len(self.mean) != channels or len(self.std) != channels or min(self.std) <= 0:
            raise ValueError(
                "mean and std must have one value per channel, and std must be above 0"
            )
        return self


class Normalised(nn.Module):
    """`network` on images in [0, 1]: (x - mean) / std, then logits. The constants are not
    weights."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """[N, C, H, W] in [0, 1] -> logits [N, num_classes]."""
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits


class Ensemble(nn.Module):
    """An ensemble: the logits are the logarithm of the members' mean probability."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        """[N, C, H, W] in [0, 1] -> logits [N, num_classes]."""
        log_probabilities = torch.stack([member(images).log_softmax(1) for member in self.members])
        return log_probabilities.logsumexp(0) - math.log(len(self.members))


def build_network(
    architecture: Architecture, generator: torch.Generator | None = None
) -> nn.Module:
    """The network on the CPU, in eval mode, initial weights drawn from `generator` (torch's
    defaults).

    Raises:
        InvalidRequest: no such model, or its parameters do not fit the input.
    """
    plugin, params = resolve_plugin(registry, architecture.model)
    if reason := incompatibility_reason(plugin.name, plugin, architecture.input_shape):
        raise InvalidRequest(reason, "params.model")
    with torch.random.fork_rng(devices=[]):
        if generator is not None:
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))

        def build_member() -> nn.Module:
            network = plugin.target(architecture.input_shape, architecture.num_classes, params)
            return Normalised(network, architecture.mean, architecture.std)

        return (
            build_member()
            if architecture.members == 1
            else Ensemble([build_member() for _ in range(architecture.members)])
        ).eval()


@dataclass(frozen=True)
class Networks:
    """Weights of `count` networks of one architecture: every tensor of `state` is [count,
    *shape]."""

    architecture: Architecture
    state: dict[str, Tensor]
    count: int

    def load_network(self, index: int = 0) -> nn.Module:
        """A fresh network with the weights of one of them, on the CPU, in eval mode."""
        network = build_network(self.architecture)
        network.load_state_dict({name: stack[index] for name, stack in self.state.items()})
        return network

    def pick(self, rows: Sequence[int]) -> Networks:
        """Some of them, in this order."""
        return Networks(
            self.architecture, {name: t[list(rows)] for name, t in self.state.items()}, len(rows)
        )

    def select_member(self, index: int) -> Networks:
        """The same member of each ensemble, as networks of their own."""
        prefix = f"members.{index}."
        state = {
            name.removeprefix(prefix): t
            for name, t in self.state.items()
            if name.startswith(prefix)
        }
        return Networks(self.architecture.member_architecture, state, self.count)


def list_parameter_names(networks: Networks) -> list[str]:
    """Names of the trained weights, in the network's order; BatchNorm statistics are not among
    them."""
    with torch.device("meta"):
        return [name for name, _ in build_network(networks.architecture).named_parameters()]


def write_network(architecture: Architecture, network: nn.Module) -> bytes:
    """One network: tensors as in its state_dict, without a leading dimension."""
    return write_tensors(network.state_dict(), _build_metadata(architecture, None))


def write_networks(architecture: Architecture, networks: Sequence[nn.Module]) -> bytes:
    """Several networks of one architecture, stacked on a leading dimension."""
    return write_tensors(
        stack_networks(architecture, networks).state, _build_metadata(architecture, len(networks))
    )


def stack_networks(architecture: Architecture, networks: Sequence[nn.Module]) -> Networks:
    """Several networks of one architecture, at least one, as one value on the CPU."""
    states = [network.state_dict() for network in networks]
    state = {name: torch.stack([s[name].cpu() for s in states]) for name in states[0]}
    return Networks(architecture, state, len(states))


def _build_metadata(architecture: Architecture, count: int | None) -> dict[str, Any]:
    return {"architecture": architecture.model_dump(mode="json"), "count": count}


def read_networks(data: bytes, role: str, like: Architecture | None = None) -> Networks:
    """Read what `write_network` or `write_networks` wrote; one network comes as a stack of 1.

    Args:
        like: the architecture it must have.

    Raises:
        InvalidRequest: not such a file; architecture unknown or another; tensors missing, unknown,
            or of another shape or dtype than the architecture's.
    """
    field = f"inputs.{role}"
    tensors, metadata = read_tensors(data, role)
    if "architecture" not in metadata:
        raise InvalidRequest(f"{role}: its metadata names no architecture", field)
    architecture = validate_model(
        Architecture, metadata["architecture"], f"{role}: architecture", field
    )
    if like is not None and architecture != like:
        raise InvalidRequest(
            f"{role} must have the same architecture as the model it is compared with", field
        )
    count = metadata.get("count")
    if count is not None and not (type(count) is int and 1 <= count <= 100_000):
        raise InvalidRequest(
            f"{role}: count must be an integer from 1, or null for a single model", field
        )

    # shapes only: nothing is allocated for an architecture that untrusted bytes claim
    with torch.device("meta"):
        expected = build_network(architecture).state_dict()
    if tensors.keys() != expected.keys():
        odd = sorted(tensors.keys() ^ expected.keys())[0]
        raise InvalidRequest(
            f"{role}: tensor {odd!r} is {'unknown' if odd in tensors else 'missing'}", field
        )
    leading = () if count is None else (count,)
    for name, spec in expected.items():
        tensor, shape = tensors[name], (*leading, *spec.shape)
        if tuple(tensor.shape) != shape or tensor.dtype != spec.dtype:
            actual = f"{list(tensor.shape)} {tensor.dtype}"
            raise InvalidRequest(
                f"{role}: {name!r} is {actual}, expected {list(shape)} {spec.dtype}", field
            )
    state = {name: tensors[name] if count else tensors[name].unsqueeze(0) for name in expected}
    return Networks(architecture, state, count or 1)


def clone(network: nn.Module) -> nn.Module:
    """A copy that shares nothing."""
    return copy.deepcopy(network)
