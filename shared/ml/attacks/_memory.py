"""How many trials fit into memory at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from shared import machine
from shared.config import Settings
from shared.ml.networks import Architecture, build_network
from shared.ml.second_derivatives import differentiable_attention

# A step's peak, divided by the weights and what autograd saves of one forward pass, was 1.6 to 2.2
# (resnet18, densenet121, efficientnet_b0, images of 32 to 224 pixels).
PEAK_FACTOR = 3
BUDGET_SHARE = 0.5  # of the memory; the rest is for networks, directions and torch itself


def fit_chunk_size(architecture: Architecture, images: int, most: int, device: torch.device) -> int:
    """The largest power of two, at most `most`, of trials of so many images that fit into half of
    the memory limit, or of the device's memory; 1 if not even two do.

    By the limit and not by what is free now, so that a resumed job goes on in the same chunks.
    """
    fitting = BUDGET_SHARE * _get_limit_bytes(device) / estimate_trial_bytes(architecture, images)
    chunk_size = most
    while chunk_size > max(1, fitting):
        chunk_size //= 2
    return chunk_size


def estimate_trial_bytes(architecture: Architecture, images: int) -> int:
    """What a step of the search takes for one trial. From shapes: nothing is allocated."""
    saved: dict[int, Tensor] = {}

    def save(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.device("meta"), differentiable_attention():
        network = build_network(architecture)
        x = torch.empty(images, *architecture.input_shape, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
            network(x)
    weights = {t.untyped_storage()._cdata: t for t in network.state_dict().values()}
    return PEAK_FACTOR * sum(t.untyped_storage().nbytes() for t in (saved | weights).values())


def _get_limit_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return Settings().memory_limit_bytes or machine.compute_memory_share_bytes(1)
