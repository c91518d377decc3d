"""Shared by methods that continue training: number of epochs, optimiser settings."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from shared.ml.context import Context
from shared.ml.samples import Samples
from shared.ml.training.recipe import Recipe
from shared.plugins import Params


class StepParams(Params):
    """SGD with momentum. The usual settings of the field, except for the batch size: sets are small
    here."""

    epochs: int = Field(10, ge=1, le=1000, description="passes over the data")
    lr: float = Field(1e-2, gt=0, le=10, description="learning rate")
    batch_size: int = Field(32, ge=1, le=65536, description="samples per step")
    momentum: float = Field(
        0.9,
        ge=0,
        lt=1,
        description="share of the previous step that is added",
    )
    weight_decay: float = Field(5e-4, ge=0, le=1, description="L2 penalty added to the gradient")
    batch_norm: Literal["frozen", "trained"] = Field(
        "frozen",
        description=(
            "frozen: uses the stored statistics and does not update them (eval mode, as in the "
            "paper); trained: uses the statistics of each batch"
        ),
    )

    def to_recipe(self) -> Recipe:
        """These settings, as a recipe."""
        return Recipe(
            epochs=self.epochs,
            lr=self.lr,
            batch_size=self.batch_size,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            batch_norm=self.batch_norm,
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
