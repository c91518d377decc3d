"""Training on wrong labels for the forgotten samples."""

from __future__ import annotations

import torch
from torch import nn

from shared.ml.context import Context
from shared.ml.samples import Samples
from shared.ml.training.sgd import train
from shared.ml.unlearning import registry
from shared.ml.unlearning._inputs import UnlearningInputs
from shared.ml.unlearning._steps import WrongLabelParams, draw_wrong_labels
from shared.roles import Role


class RandomLabelsParams(WrongLabelParams):
    pass


@registry.register(
    "random_labels",
    params=RandomLabelsParams,
    needs=(Role.ORIGINAL,),
    source="Golatkar et al. 2020, arXiv 1911.04933, baseline 'random labels'",
    exact=False,
)
def unlearn(
    inputs: UnlearningInputs,
    retain: Samples,
    forget: Samples,
    params: RandomLabelsParams,
    ctx: Context,
) -> nn.Module:
    """Approximate: train on retain and forget set together, with one wrong label for each forgotten
    sample.

    The label is drawn once, before the first step, and is never the true one.

    Raises:
        JobFailed: `invalid`, the loss is not finite.
    """
    labels = draw_wrong_labels(inputs.original, forget, ctx)
    samples = Samples(torch.cat([retain.images, forget.images]), torch.cat([retain.labels, labels]))
    train(inputs.original, samples, params.to_recipe(inputs.recipe), ctx)
    return inputs.original
