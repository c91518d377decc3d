"""Features of a network, scaled so that their Euclidean distance compares images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

BATCH_SIZE = 64


def join_features(layers: Sequence[Tensor], weights: Sequence[Tensor | float]) -> Tensor:
    """One vector per image; the squared distance of two is the perceptual distance of Zhang et al.
    2018.

    That is: at each position of a layer the vector over channels is scaled to length 1 (zeros
    stay), two images' vectors are subtracted, squared, weighted by channel, summed over channels,
    averaged over positions, and summed over layers. The weights must not be negative.

    Args:
        layers: [N, C, ...] each, any number of positions.
        weights: of each layer, one number or [C].

    Returns:
        [N, F].
    """
    parts = []
    for layer, weight in zip(layers, weights, strict=True):
        unit = layer.flatten(2) if layer.dim() > 2 else layer.unsqueeze(2)
        unit = unit / (unit.norm(dim=1, keepdim=True) + 1e-10)
        scale = (
            torch.as_tensor(weight, dtype=unit.dtype, device=unit.device) / unit.shape[2]
        ).sqrt()
        parts.append((unit * scale.view(-1, 1)).flatten(1))
    return torch.cat(parts, 1)


@torch.no_grad()
def run_in_batches(network: nn.Module, images: Tensor) -> Tensor:
    """The network's output for images [N, C, H, W], computed on its device, on the CPU."""
    device = next(network.parameters()).device
    network.to(memory_format=torch.channels_last)  # quicker, as in training.sgd.logits
    return torch.cat([network(part.to(device)).cpu() for part in images.split(BATCH_SIZE)])
