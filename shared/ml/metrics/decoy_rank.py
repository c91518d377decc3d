"""Whether the reconstruction identifies the true sample among others of its class."""

from __future__ import annotations

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

    [N, C, H, W] twice and decoys [N, M, C, H, W] -> [N] int64 in 1 to M + 1. Ties count against the
    attack.
    """
    to_truth = (reconstruction - target).square().flatten(1).mean(1)
    to_decoys = (reconstruction.unsqueeze(1) - decoys).square().flatten(2).mean(2)
    return 1 + (to_decoys <= to_truth.unsqueeze(1)).sum(1)
