"""The loss: training lowers it, unlearning raises it, and attacks match its gradients."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn.functional import cross_entropy


def compute_loss(
    outputs: Tensor, targets: Tensor, reduction: Literal["mean", "sum", "none"] = "mean"
) -> Tensor:
    """The cross-entropy of a network's outputs.

    Other code also assumes that outputs are logits of classes: it takes a softmax in ensembles and
    oracles, which return probabilities, and in the methods fisher, second_order and scrub.

    Args:
        outputs: [N, K], logits.
        targets: classes, int64 [N]; or the probability of each class, [N, K].
    """
    return cross_entropy(outputs, targets, reduction=reduction)
