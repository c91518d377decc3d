"""The loss: what training lowers, unlearning raises again, and attacks match gradients of."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn.functional import cross_entropy


def compute_loss(
    outputs: Tensor, targets: Tensor, reduction: Literal["mean", "sum", "none"] = "mean"
) -> Tensor:
    """Of what a network answers: cross-entropy of its classes.

    That answers are logits of classes is also known where a softmax is taken without a loss: by
    ensembles and oracles, which give probabilities, and by the methods fisher, second_order and
    scrub.

    Args:
        outputs: [N, K], logits.
        targets: classes, int64 [N]; or the probability of each class, [N, K].
    """
    return cross_entropy(outputs, targets, reduction=reduction)
