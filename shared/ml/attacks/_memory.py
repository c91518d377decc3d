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
DEVICE_BUDGET_SHARE = 0.8  # of what an accelerator has left, with networks and directions on it
# trials; on one CPU core more at once are not faster
MAX_CHUNK_SIZE, MAX_DEVICE_CHUNK_SIZE = 32, 4096


def fit_chunk_size(architecture: Architecture, images: int, device: torch.device) -> int:
    """The largest power of two of trials of so many images that fit into memory, up to what the
    device has use for; 1 if not even two do.

    On a CPU, into half of the memory limit, and not by what is free now: a resumed job goes on in
    the same chunks, hence to the same bits. On an accelerator, into most of what is free there now:
    other workers may share it.
    """
    on_cpu = device.type == "cpu"
    budget = (
        BUDGET_SHARE * _get_limit_bytes()
        if on_cpu
        else DEVICE_BUDGET_SHARE * _get_free_bytes(device)
    )
    fitting = budget / estimate_trial_bytes(architecture, images)
    chunk_size = MAX_CHUNK_SIZE if on_cpu else MAX_DEVICE_CHUNK_SIZE
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


def _get_free_bytes(device: torch.device) -> int:
    """What this process can still take of the device: what nobody has, and what torch keeps, up to
    the process's share."""
    free, total = torch.cuda.mem_get_info(device)
    share = int(total * torch.cuda.get_per_process_memory_fraction(device))
    within = min(free + torch.cuda.memory_reserved(device), share)
    return within - torch.cuda.memory_allocated(device)


def _get_limit_bytes() -> int:
    return Settings().memory_limit_bytes or machine.compute_memory_share_bytes(1)
