"""What an attacker scores who saw nothing of the weights. Without it a score says little."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from shared.ml.datasets._base import Samples

Score = Callable[[Tensor, Tensor], Tensor]


def class_mean(public: Samples, labels: Tensor) -> Tensor:
    """The mean public image of each label, any shape of labels -> [*labels.shape, C, H, W].

    A class without public samples gets the mean of all.
    """
    means = {}
    for label in labels.unique().tolist():
        members = public.images[public.labels == label]
        means[label] = (members if len(members) else public.images).mean(0)
    return torch.stack([means[label] for label in labels.flatten().tolist()]).view(
        *labels.shape, *public.images.shape[1:]
    )


def permuted_truth(score: Score, answers: Tensor, truth: Tensor) -> Tensor | None:
    """Every deletion's answer scored against every other deletion's truth, averaged per truth.

    Args:
        score: (answers [D, ...], truth [D, ...]) -> [D, ...].

    Returns:
        like the score, or None for fewer than two deletions.
    """
    deletions = len(truth)
    if deletions < 2:
        return None
    shifted = [score(answers.roll(s, 0), truth) for s in range(1, deletions)]
    return torch.stack(shifted).double().mean(0)
