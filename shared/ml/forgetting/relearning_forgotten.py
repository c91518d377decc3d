"""Relearning on a few forgotten samples: whether the rest of the forget set comes back too."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from shared.forgetting import MAX_LOSS
from shared.ml.context import Context
from shared.ml.forgetting.way import Way, measure_way
from shared.ml.loss import compute_loss
from shared.ml.networks import clone
from shared.ml.samples import Samples
from shared.ml.statistics import MIN_VALUES
from shared.ml.training.recipe import Recipe
from shared.ml.training.sgd import compute_logits, descend

LEVEL = 0.002  # small: a retrained model must not be flagged in any of many reports
PERMUTATIONS = 1999
HALF_WAY = 0.5
TIES = 1e-12  # means of one assignment differ by as much when they are summed in another order


def relearn_from_forgotten(
    network: nn.Module, few: Samples, rest: Samples, recipe: Recipe, steps: int, ctx: Context
) -> list[float]:
    """Mean loss on `rest` before, and after each step of fine-tuning on `few`.

    Every step takes all of `few`, at the recipe's first learning rate, without noise, and with the
    stored statistics of BatchNorm: those of a few samples would change the network more than the
    steps do.

    Args:
        network: unchanged.
        few, rest: of one forget set.

    Returns:
        `steps` + 1 losses, in nats.

    Raises:
        JobFailed: `invalid`, the fine-tuning diverged.
    """
    tuned = clone(network)
    full_batch = recipe.model_copy(
        update={
            "epochs": steps,
            "batch_size": len(few.labels),
            "schedule": "constant",
            "noise_multiplier": 0.0,
            "batch_norm": "frozen",
        }
    )
    losses: list[float] = []

    def record_loss(_steps: int) -> None:
        logits = compute_logits(tuned, rest.images, ctx.device).double()
        loss = compute_loss(logits, rest.labels).nan_to_num(MAX_LOSS, MAX_LOSS)
        losses.append(min(loss.item(), MAX_LOSS))

    def compute_batch_loss(batch: Tensor, _step: int) -> Tensor:
        images, labels = few.pick(batch)
        return compute_loss(tuned(images.to(ctx.device)), labels.to(ctx.device))

    record_loss(0)
    descend(tuned, len(few.labels), full_batch, ctx, compute_batch_loss, after_epoch=record_loss)
    return losses


class RelearningTest(NamedTuple):
    """The way to retraining of the rest of the forget sets, before and after relearning.
    `not_forgotten` is None if the models cannot decide, and `reason` says why."""

    before: Way
    after: Way
    p: float | None
    not_forgotten: bool | None
    reason: str | None = None


def compare_relearning(
    original: Tensor, release: Tensor, retrained: Tensor, generator: torch.Generator
) -> RelearningTest:
    """Test whether a release has kept what it seemed to forget: after relearning a few samples it
    treats the rest of the forget sets as the original does, and no retrained model would.

    Of each model the lowest loss that it reaches counts. "Not forgotten" takes both: the 95 %
    interval of the way to retraining at that loss lies below one half; and at most 0.2 % of the
    assignments that swap each deletion's release with its retrained models have a mean loss as
    low. It is asked only where the same swaps also tell the original from the retrained models.

    Source: "From Dormant to Deleted", arXiv 2505.22310, where accuracy on the forgotten samples is
    compared with that of retrained models after fine-tuning on a few of them. Ours: losses, the
    original as the other end of the scale, and the level.

    Args:
        original, release: mean loss on the rest before, and after each step, [steps + 1, D].
        retrained: the same by seed, [steps + 1, D, S].
    """
    kinds = (original, release, retrained)
    before = measure_way(*(kind[0] for kind in kinds))
    lowest = [kind.amin(0) for kind in kinds]
    after = measure_way(*lowest)
    if release.shape[1] < MIN_VALUES:
        return RelearningTest(
            before, after, None, None, f"the test needs at least {MIN_VALUES} deletions"
        )
    if after.value is None or after.interval is None:
        return RelearningTest(before, after, None, None, f"after relearning, {after.reason}")
    told_apart = _count_as_low(lowest[0], lowest[2], generator)
    if told_apart > LEVEL:
        return RelearningTest(
            before,
            after,
            None,
            None,
            "after relearning, the original cannot be told from retrained models "
            f"(p = {told_apart:.2g})",
        )
    p = _count_as_low(lowest[1], lowest[2], generator)
    return RelearningTest(before, after, p, after.interval[1] < HALF_WAY and p <= LEVEL)


def _count_as_low(one: Tensor, many: Tensor, generator: torch.Generator) -> float:
    """The share of assignments with a mean as low as that of `one` [D], where any of a deletion's
    models, `one` and `many` [D, S], may be the one."""
    models = torch.cat([one.unsqueeze(1), many], 1).double()
    drawn = torch.randint(models.shape[1], (PERMUTATIONS, len(models)), generator=generator)
    means = models.gather(1, drawn.T).mean(0)
    own = models[:, 0].mean()
    as_low = int((means <= own + TIES * (1 + own.abs())).sum())
    return (as_low + 1) / (PERMUTATIONS + 1)
