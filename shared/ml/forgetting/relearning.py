"""Relearning: whether what was forgotten comes back when a release is trained on retained data."""

from __future__ import annotations

from torch import nn

from shared.ml.context import Context, SeededSubContext
from shared.ml.metrics.accuracy import accuracy
from shared.ml.networks import clone
from shared.ml.samples import Samples
from shared.ml.training.recipe import Recipe
from shared.ml.training.sgd import train


def relearn(
    network: nn.Module,
    retain: Samples,
    forget: Samples,
    recipe: Recipe,
    epochs: int,
    ctx: Context,
) -> list[float]:
    """Forget accuracy before fine-tuning on retained samples only, and after each epoch of it.

    A model that has forgotten does not learn the samples back from others; compare with a
    retrained model that is treated in the same way.

    Source: "From Dormant to Deleted", arXiv 2505.22310. Ours: the steps are those of the recipe at
    its first learning rate, without noise, and momentum starts anew every epoch.

    Args:
        network: unchanged.

    Returns:
        `epochs` + 1 shares in [0, 1].

    Raises:
        JobFailed: `invalid`, the fine-tuning diverged.
    """
    tuned = clone(network)
    one_epoch = recipe.model_copy(
        update={"epochs": 1, "schedule": "constant", "noise_multiplier": 0.0}
    )
    accuracies = [accuracy(tuned, forget, ctx.device)]
    for epoch in range(epochs):
        train(tuned, retain, one_epoch, SeededSubContext(ctx, epoch, epochs))
        accuracies.append(accuracy(tuned, forget, ctx.device))
    return accuracies
