"""Whether the reconstruction identifies the true sample among others of its class."""

from __future__ import annotations

import torch
from torch import Tensor

from shared.ml.metrics import registry


@registry.register(
    "decoy_rank",
    takes="decoys",
    unit="rank",
    range=(1, None),
    higher_is_better=False,
)
def decoy_rank(reconstruction: Tensor, target: Tensor, decoys: Tensor) -> Tensor:
    """Rank of the truth among decoys by mean squared distance to the reconstruction; 1 is
    identified.

    If a deletion has several reconstructions, each image counts by the one nearest to it: which of
    them belongs to the truth is unknown, and for truth and decoys alike.

    [N, C, H, W] or [N, k, C, H, W], truths [N, C, H, W] and decoys [N, M, C, H, W] -> [N] int64 in 1
    to M + 1. Ties count against the attack.
    """
    to_truth = measure_distances(reconstruction, target.unsqueeze(1))
    return 1 + (measure_distances(reconstruction, decoys) <= to_truth).sum(1)


def measure_distances(reconstruction: Tensor, images: Tensor) -> Tensor:
    """Mean squared distance of each image to the nearest of its reconstructions.

    [N, C, H, W] or [N, k, C, H, W], and images [N, M, C, H, W] -> [N, M].
    """
    several = (
        reconstruction if reconstruction.dim() == images.dim() else reconstruction.unsqueeze(1)
    )
    nearest = torch.full(images.shape[:2], torch.inf)
    for one in several.unbind(1):
        nearest = nearest.minimum((one.unsqueeze(1) - images).square().flatten(2).mean(2))
    return nearest
