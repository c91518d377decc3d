"""A Newton step towards the model trained without the forgotten samples."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import nn

from shared.errors import JobFailed
from shared.ml.context import Context
from shared.ml.loss import compute_loss
from shared.ml.samples import Samples
from shared.ml.training.sgd import require_finite
from shared.ml.unlearning import registry
from shared.ml.unlearning._curvature import add, compute_damping, dot, multiply_curvature
from shared.ml.unlearning._inputs import UnlearningInputs
from shared.plugins import Params
from shared.roles import Role


class SecondOrderParams(Params):
    damping: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description=(
            "added to the curvature of every weight; null: the weight decay of training plus 1 / "
            "t, where t is the sum of the learning rates of all training steps / (1 - momentum), "
            "so that the Newton step goes as far as training went"
        ),
    )
    iterations: int = Field(
        20, ge=1, le=10_000, description="maximum number of conjugate-gradient steps"
    )
    tolerance: float = Field(
        1e-4,
        gt=0,
        lt=1,
        description="residual, relative to the gradient, at which the iterations stop",
    )
    scale: float = Field(
        1.0, gt=0, le=1000, description="length of the step; 1 is the full Newton step"
    )


@registry.register(
    "second_order",
    params=SecondOrderParams,
    needs=(Role.ORIGINAL,),
    source=(
        "Guo et al. 2020, arXiv 1911.03030, section 3; Warnecke et al. 2023, arXiv 2108.11577, "
        "second-order update"
    ),
    exact=False,
)
def unlearn(
    inputs: UnlearningInputs,
    retain: Samples,
    forget: Samples,
    params: SecondOrderParams,
    ctx: Context,
) -> nn.Module:
    """Approximate: theta_u = theta + (H + damping)^-1 * sum grad l(forget) / |retain|, by conjugate
    gradients.

    A Newton step on the loss of the retain set, from the minimum of the loss of both sets: there
    the two gradients cancel. H is the Gauss-Newton matrix of the mean loss on the retain set: the
    Hessian of a network is not positive definite, and conjugate gradients would ascend where it is
    not. The default damping is that of early stopping: see `compute_damping`.

    Raises:
        JobFailed: `invalid`, the step is not finite; names the iteration.
    """
    network = inputs.original.to(ctx.device).eval()
    loss = compute_loss(
        network(forget.images.to(ctx.device)), forget.labels.to(ctx.device), reduction="sum"
    )
    gradients = torch.autograd.grad(loss / len(retain.labels), list(network.parameters()))
    gradient = dict(zip(dict(network.named_parameters()), gradients, strict=True))

    damping = params.damping
    if damping is None:
        n = len(retain.labels) + len(forget.labels)
        damping = compute_damping(inputs.get_recipe(), n)
    step = {name: torch.zeros_like(w) for name, w in network.named_parameters()}
    residual, direction = gradient, gradient
    residual_norm_sq = first_norm_sq = dot(gradient, gradient)
    for iteration in range(params.iterations):
        if residual_norm_sq <= params.tolerance**2 * first_norm_sq:
            ctx.report_progress(params.iterations, params.iterations)
            break
        product = add(multiply_curvature(network, retain, direction, ctx), direction, damping)
        length = residual_norm_sq / dot(direction, product)
        if not math.isfinite(length):
            raise JobFailed(
                "invalid",
                f"the Newton step produced values that are not finite at iteration {iteration}; "
                "raise damping",
            )
        step = add(step, direction, length)
        residual = add(residual, product, -length)
        residual_norm_sq, last_norm_sq = dot(residual, residual), residual_norm_sq
        direction = add(residual, direction, residual_norm_sq / last_norm_sq)
        ctx.report_progress(
            iteration + 1, params.iterations, residual=math.sqrt(residual_norm_sq / first_norm_sq)
        )
    with torch.no_grad():
        for name, weight in network.named_parameters():
            weight.add_(step[name], alpha=params.scale)
    require_finite(
        network, "the Newton step: after the last iteration", "raise damping or lower scale"
    )
    return network
