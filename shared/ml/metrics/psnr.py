"""Peak signal-to-noise ratio."""

from __future__ import annotations

from torch import Tensor

from shared.ml.metrics import registry
from shared.ml.metrics.mse import mse


@registry.register("psnr", takes="image", unit="dB", range=(0, 100), higher_is_better=True)
def psnr(reconstruction: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio with peak 1, of pixels in [0, 1]: MSE 0.01 is 20 dB.

    [N, C, H, W] twice -> [N] in dB, at most 100 (equal images would be infinite).
    """
    return -10 * mse(reconstruction, target).clamp_min(1e-10).log10()
