"""Structural similarity."""

from __future__ import annotations

from torch import Tensor

from shared.ml.metrics import registry


@registry.register(
    "ssim",
    source="Wang et al. 2004; torchmetrics, Gaussian window of sigma 1.5",
    takes="image",
    unit="1",
    range=(-1, 1),
    higher_is_better=True,
    min_size=6,
)
def ssim(reconstruction: Tensor, target: Tensor) -> Tensor:
    """Structural similarity of pixels in [0, 1], mean over the image.

    [N, C, H, W] twice, H and W at least 6 -> [N] in [-1, 1].
    """
    # Imported here: it takes as long as the rest of a worker, and only evaluations need it.
    from torchmetrics.functional.image import structural_similarity_index_measure

    scores = structural_similarity_index_measure(
        reconstruction, target, data_range=1.0, reduction="none"
    )
    assert isinstance(scores, Tensor)
    return scores.reshape(-1)
