"""Detects degenerate models."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shared.ml.training.sgd import compute_logits

SAME_OUTPUT_RTOL = 1e-6  # relative; differences due to the position in a batch are smaller


def degenerate_reason(network: nn.Module, images: Tensor, device: torch.device) -> str | None:
    """Why a network is degenerate (not finite, or constant), or None. Wrong predictions do not
    count.

    Args:
        images: [n, C, H, W], different ones.
    """
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            return f"its {name!r} is not finite"
    outputs = compute_logits(network, images, device)
    if not torch.isfinite(outputs).all():
        return "its output is not finite"
    if len(images) > 1 and torch.allclose(
        outputs, outputs[:1].expand_as(outputs), rtol=SAME_OUTPUT_RTOL, atol=0.0
    ):
        return "it gives the same output for every input"
    return None
