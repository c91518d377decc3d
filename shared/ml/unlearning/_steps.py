"""Shared by methods that continue training: number of epochs, optimiser settings."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from shared.ml.context import Context
from shared.ml.samples import Samples
from shared.ml.training.recipe import Recipe
from shared.plugins import Params

MAX_LR = 10.0


class StepParams(Params):
    """SGD. What is null is as it was in the training of the original: so many of its epochs, and so
    much of its learning rate."""

    epochs_share: ClassVar[float] = 1.0
    lr_factor: ClassVar[float] = 1.0

    epochs: int | None = Field(
        None, ge=1, le=1000, description="passes over the data; null: as many as in training"
    )
    lr: float | None = Field(
        None, gt=0, le=MAX_LR, description="learning rate; null: the highest of training"
    )
    batch_size: int | None = Field(
        None, ge=1, le=65536, description="samples per step; null: as in training"
    )
    momentum: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="share of the previous step that is added; null: as in training",
    )
    weight_decay: float | None = Field(
        None, ge=0, le=1, description="L2 penalty added to the gradient; null: as in training"
    )
    batch_norm: Literal["frozen", "trained"] | None = Field(
        None,
        description=(
            "frozen: uses the stored statistics and does not update them (eval mode, as in the "
            "paper); trained: uses the statistics of each batch; null: as in training"
        ),
    )

    def to_recipe(self, training: Recipe | None) -> Recipe:
        """These settings as a recipe with a constant learning rate; null ones from `training`, the
        recipe of the original."""
        training = training or Recipe()
        training = training.model_copy(
            update={
                "epochs": math.ceil(self.epochs_share * training.epochs),
                "lr": min(MAX_LR, self.lr_factor * training.lr),
            }
        )
        own = {name: getattr(self, name) for name in StepParams.model_fields}
        return Recipe(
            **{name: getattr(training, name) if v is None else v for name, v in own.items()}
        )


class WrongLabelParams(StepParams):
    """For training on wrong labels, which overshoots retraining if it goes on for as long as
    training did."""

    epochs_share = 0.2

    epochs: int | None = Field(
        None, ge=1, le=1000, description="passes over the data; null: a fifth of those of training"
    )


def take_cyclic_batch(samples: Samples, step: int, batch_size: int) -> Samples:
    """At most `batch_size` samples, those due at this step: batch after batch, cyclically."""
    n = len(samples.labels)
    batch_size = min(batch_size, n)
    return samples.pick((torch.arange(batch_size) + step * batch_size) % n)


@torch.no_grad()
def draw_wrong_labels(network: nn.Module, samples: Samples, ctx: Context) -> Tensor:
    """For each sample a class other than its own, uniformly. int64 [N]."""
    classes = network.to(ctx.device)(samples.images[:1].to(ctx.device)).shape[1]
    shift = torch.randint(
        1, classes, samples.labels.shape, generator=ctx.make_generator("wrong labels")
    )
    return (samples.labels + shift) % classes
