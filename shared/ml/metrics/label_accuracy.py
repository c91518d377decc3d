"""How many of the forgotten classes were guessed."""

from __future__ import annotations

import torch
from torch import Tensor

from shared.ml.metrics import registry


@registry.register(
    "label_accuracy", takes="label", unit="share", range=(0, 1), higher_is_better=True
)
def label_accuracy(guesses: Tensor, truth: Tensor) -> Tensor:
    """Share of a deletion's k classes that are among its k guesses, each guess used once.

    int64 [D, k] twice -> [D] in [0, 1].
    """
    classes = int(max(guesses.max(), truth.max())) + 1
    guessed, true = (
        torch.zeros(len(t), classes).scatter_add_(1, t, torch.ones(t.shape))
        for t in (guesses, truth)
    )
    return torch.minimum(guessed, true).sum(1) / truth.shape[1]
