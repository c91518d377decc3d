"""Undo the steps of all batches that contained a forgotten sample."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from shared.errors import JobFailed
from shared.ml.context import Context
from shared.ml.loss import compute_loss
from shared.ml.samples import Samples
from shared.ml.training.sgd import train
from shared.ml.unlearning import registry
from shared.ml.unlearning._inputs import UnlearningInputs
from shared.ml.unlearning._steps import StepParams
from shared.roles import Role


class AmnesiacParams(StepParams):
    epochs: int = Field(
        0, ge=0, le=1000, description="epochs of fine-tuning on the retain set afterwards"
    )
    record_deltas: Literal[True] = Field(
        True, description="record the weight change of every training step"
    )


@registry.register(
    "amnesiac",
    params=AmnesiacParams,
    needs=(Role.ORIGINAL, Role.BATCH_DELTAS),
    trains=("record_deltas",),
    source="Graves et al. 2021, arXiv 2010.10981, section 3.2",
    exact=False,
)
def unlearn(
    inputs: UnlearningInputs,
    retain: Samples,
    forget: Samples,
    params: AmnesiacParams,
    ctx: Context,
) -> nn.Module:
    """Approximate: theta_u = theta - the sum of the recorded changes of every batch with a
    forgotten sample.

    With N up to the batch size every step saw every sample, so only the base model is left.

    Raises:
        JobFailed: `invalid`, the loss on the forget set or of fine-tuning is not finite; names the
            step.
    """
    network, changes = inputs.original.to(ctx.device).eval(), inputs.require_changes()
    with torch.no_grad():
        for name, weight in network.named_parameters():
            weight.sub_(changes[name].to(ctx.device))
        loss = compute_loss(
            network(forget.images.to(ctx.device)), forget.labels.to(ctx.device)
        ).item()
    if not math.isfinite(loss):
        raise JobFailed(
            "invalid",
            f"the loss is {loss} after step 0, which undoes the recorded changes: they were "
            "recorded for another model",
        )
    ctx.report_progress(1, 1, loss=loss)
    if params.epochs:
        train(network, retain, params.to_recipe(inputs.recipe), ctx)
    return network
