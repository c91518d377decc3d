"""Whether what a defense releases is still a model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shared.ml.training.sgd import compute_logits

SAME_OUTPUT_RTOL = 1e-6  # relative; what a batch's place alone changes


def degenerate_reason(network: nn.Module, images: Tensor, device: torch.device) -> str | None:
    """What is wrong with a network that is none any more, or None. Being wrong, however often, is
    no such thing.

    Args:
        images: [n, C, H, W], different ones.
    """
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            return f"its {name!r} is not finite"
    answers = compute_logits(network, images, device)
    if not torch.isfinite(answers).all():
        return "its output is not finite"
    if len(images) > 1 and torch.allclose(
        answers, answers[:1].expand_as(answers), rtol=SAME_OUTPUT_RTOL, atol=0.0
    ):
        return "it gives the same output for every input"
    return None
