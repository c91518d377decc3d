"""The true positive rate at a low false positive rate."""

from __future__ import annotations

from torch import Tensor

from shared.ml.metrics import registry

FPR = 0.05


@registry.register("tpr", takes="membership", unit="share", range=(0, 1), higher_is_better=True)
def tpr(scores: Tensor, others: Tensor) -> Tensor:
    """Whether a sample is detected at a false positive rate of 5 %; the mean is the true positive
    rate there.

    A sample is detected if it and the others that score at least as high are at most 5 % of it and
    all others: a sample like the others is detected in at most 5 % of cases, exactly. Ties count
    against the attack. With fewer than 19 others none is detected. [N] and [N, M], those that each
    is compared with -> [N], 0 or 1.
    """
    as_high = 1 + (others >= scores.unsqueeze(1)).sum(1)
    return (as_high <= FPR * (others.shape[1] + 1) + 1e-9).double()
