"""How well scores distinguish two groups of samples."""

from __future__ import annotations

from torch import Tensor

from shared.ml.metrics import registry
from shared.ml.ranks import compute_wins


@registry.register(
    "auc", takes="membership", unit="share", range=(0, 1), higher_is_better=True, chance=0.5
)
def auc(scores: Tensor, others: Tensor) -> Tensor:
    """Share of the non-members that a sample scores above, where ties count half; the mean over
    samples is the area under the ROC curve.

    [N] and [N, M], those that each is compared with -> [N] in [0, 1].
    """
    return compute_wins(scores, others).mean(1)
