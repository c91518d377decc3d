"""What a classifier is worth."""

from __future__ import annotations

import torch
from torch import nn

from shared.ml.metrics import registry
from shared.ml.samples import Samples
from shared.ml.training.sgd import compute_logits


@registry.register(
    "accuracy", takes="classifier", unit="share", range=(0, 1), higher_is_better=True
)
def accuracy(network: nn.Module, samples: Samples, device: torch.device) -> float:
    """Share of samples whose highest logit is their label's."""
    right = compute_logits(network, samples.images, device).argmax(1) == samples.labels
    return right.double().mean().item()
