"""Mean squared error."""

from __future__ import annotations

from torch import Tensor

from shared.ml.metrics import registry


@registry.register("mse", takes="image", unit="1", range=(0, 1), higher_is_better=False)
def mse(reconstruction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of pixels in [0, 1].

    [N, C, H, W] twice -> [N] in [0, 1].
    """
    return (reconstruction - target).square().flatten(1).mean(1)
