"""Structural similarity."""

from __future__ import annotations

from torch import Tensor

from shared.ml.metrics import registry

WINDOW = 11  # side of the Gaussian window of sigma 1.5


@registry.register(
    "ssim",
    source="Wang et al. 2004; torchmetrics, Gaussian window of sigma 1.5, windows within the image",
    takes="image",
    unit="1",
    range=(-1, 1),
    higher_is_better=True,
    min_size=WINDOW,
)
def ssim(reconstruction: Tensor, target: Tensor) -> Tensor:
    """Structural similarity of pixels in [0, 1], mean over the windows that lie within the image.

    [N, C, H, W] twice, H and W at least 11 -> [N] in [-1, 1].
    """
    # Imported here: it takes as long as the rest of a worker, and only evaluations need it.
    from torchmetrics.functional.image import structural_similarity_index_measure

    _, everywhere = structural_similarity_index_measure(
        reconstruction, target, data_range=1.0, reduction="none", return_full_image=True
    )
    assert isinstance(everywhere, Tensor)
    # torchmetrics reflects images at their borders, which the published measure does not
    border = WINDOW // 2
    inner = everywhere[:, :, border:-border, border:-border]
    return inner.flatten(1).mean(1)
