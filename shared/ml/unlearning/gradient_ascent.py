"""Gradient ascent on the loss of the forgotten samples."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import nn

from shared.errors import JobFailed
from shared.ml.context import Context
from shared.ml.loss import compute_loss
from shared.ml.samples import Samples
from shared.ml.training.private import compute_private_gradients
from shared.ml.training.sgd import require_finite
from shared.ml.unlearning import registry
from shared.ml.unlearning._inputs import UnlearningInputs
from shared.plugins import Params
from shared.roles import Role


class GradientAscentParams(Params):
    steps: int = Field(1, ge=1, le=10_000, description="ascent steps (paper: 1)")
    lr: float = Field(
        1e-3, gt=0, le=10, description="step size, like the learning rate of training"
    )


@registry.register(
    "gradient_ascent",
    params=GradientAscentParams,
    needs=(Role.ORIGINAL,),
    source="the 'approximate' unlearning of Hu et al. 2024, arXiv 2404.03233",
    exact=False,
    retain="optional",
)
def unlearn(
    inputs: UnlearningInputs,
    retain: Samples,  # noqa: ARG001  (ascent uses the forget set only)
    forget: Samples,
    params: GradientAscentParams,
    ctx: Context,
) -> nn.Module:
    """Approximate: theta_u = theta + lr * gradient of the mean loss on the forget set, `steps`
    times.

    BatchNorm statistics stay as they are (eval mode). If the original was trained by DP-SGD, so is
    each step here: gradients are clipped and get noise, as the change would otherwise be the plain
    gradient.

    Raises:
        JobFailed: `invalid`, the loss or in the end a weight is not finite; names the step.
    """
    network = inputs.original.to(ctx.device).eval()
    images, labels = (t.to(ctx.device) for t in forget)
    weights = dict(network.named_parameters())
    recipe = inputs.recipe if inputs.recipe and inputs.recipe.is_private else None
    for step in range(params.steps):
        if recipe:
            loss, gradients = compute_private_gradients(
                network, forget, len(forget.labels), recipe, ctx, step
            )
        else:
            value = compute_loss(network(images), labels)
            loss, gradients = (
                value.item(),
                dict(zip(weights, torch.autograd.grad(value, [*weights.values()]), strict=True)),
            )
        if not math.isfinite(loss):
            raise JobFailed(
                "invalid",
                (
                    f"gradient ascent produced values that are not finite at step {step}; lower lr "
                    "or steps"
                ),
            )
        with torch.no_grad():
            for name, weight in weights.items():
                weight.add_(gradients[name], alpha=params.lr)
        ctx.report_progress(step + 1, params.steps, loss=loss)
    require_finite(network, f"gradient ascent: after step {params.steps - 1}", "lower lr or steps")
    return network
