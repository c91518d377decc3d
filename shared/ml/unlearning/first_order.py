"""One gradient step that replaces the forgotten samples by uninformative ones."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor, nn

from shared.errors import JobFailed
from shared.ml.context import Context
from shared.ml.loss import compute_loss
from shared.ml.samples import Samples
from shared.ml.training.recipe import Recipe
from shared.ml.training.sgd import compute_logits, require_finite
from shared.ml.unlearning import registry
from shared.ml.unlearning._curvature import compute_damping, dot, measure_curvature
from shared.ml.unlearning._inputs import UnlearningInputs
from shared.plugins import Params
from shared.roles import Role

LEAST_FALL = 0.2  # of the fall that the slope promises: a parabola has 0.5 at its lowest point
MAX_HALVINGS = 20  # of the step


class FirstOrderParams(Params):
    tau: float | None = Field(
        None,
        gt=0,
        le=10,
        description=(
            "unlearning rate, by which the sum of the gradients is multiplied; null: "
            "1 / (N (h + d)), where h is the curvature of the loss along that sum and d the "
            "default damping of second_order, halved where that is too far"
        ),
    )


@registry.register(
    "first_order",
    params=FirstOrderParams,
    needs=(Role.ORIGINAL,),
    source="Warnecke et al. 2023, arXiv 2108.11577, the first-order update",
    exact=False,
    retain="optional",
)
def unlearn(
    inputs: UnlearningInputs,
    retain: Samples,
    forget: Samples,
    params: FirstOrderParams,
    ctx: Context,
) -> nn.Module:
    """Approximate: theta_u = theta - tau * sum (grad l(x, y~) - grad l(x, y)) over the forget set.

    By default tau = 1 / (N (h + damping)), h the curvature of the mean loss on the retain set along
    the sum, and the damping that of the second-order update, of which this is the first step of
    conjugate gradients: one sample of many moves little. The curvature holds only nearby. So tau is
    halved until the step lowers the loss of all samples, with y~ for y, by a fifth of what its
    slope promises (Armijo's rule).

    The paper leaves open what replaces a sample. Here it is its image without a class: y~ is 1 /
    classes for each.

    Raises:
        JobFailed: `invalid`, the loss or in the end a weight is not finite.
    """
    network = inputs.original.to(ctx.device).eval()
    images, labels = (t.to(ctx.device) for t in forget)
    logits = network(images)
    uniform = torch.full_like(logits, 1 / logits.shape[1])
    change = compute_loss(logits, uniform, reduction="sum") - compute_loss(
        logits, labels, reduction="sum"
    )
    if not math.isfinite(change.item()):
        raise JobFailed(
            "invalid",
            f"first order: the change of the loss at step 0 is {change.item()}, not finite",
        )
    gradients = torch.autograd.grad(change, list(network.parameters()))
    direction = {
        name: g for (name, _), g in zip(network.named_parameters(), gradients, strict=True)
    }
    if params.tau is not None:
        _subtract(network, direction, params.tau)
    else:
        tau = _compute_tau(network, retain, forget, inputs.get_recipe(), direction, ctx)
        before = _measure_replaced_loss(network, retain, forget, ctx)
        _subtract(network, direction, tau)
        for _ in range(MAX_HALVINGS):
            fall = before - _measure_replaced_loss(network, retain, forget, ctx)
            # false, too, where the step left the finite numbers
            if fall >= LEAST_FALL * tau * dot(direction, direction):
                break
            tau /= 2
            _subtract(network, direction, -tau)
    require_finite(network, "first order: after step 0", "lower tau")
    ctx.report_progress(1, 1)
    return network


@torch.no_grad()
def _subtract(network: nn.Module, direction: dict[str, Tensor], length: float) -> None:
    for name, weight in network.named_parameters():
        weight.sub_(direction[name], alpha=length)


def _measure_replaced_loss(
    network: nn.Module, retain: Samples, forget: Samples, ctx: Context
) -> float:
    """Sum of the losses of all samples, the forgotten ones without a class."""
    logits = compute_logits(network, forget.images, ctx.device)
    uniform = torch.full_like(logits, 1 / logits.shape[1])
    total = compute_loss(logits, uniform, reduction="sum").item()
    if len(retain.labels):
        logits = compute_logits(network, retain.images, ctx.device)
        total += compute_loss(logits, retain.labels, reduction="sum").item()
    return total


def _compute_tau(
    network: nn.Module,
    retain: Samples,
    forget: Samples,
    recipe: Recipe,
    direction: dict[str, Tensor],
    ctx: Context,
) -> float:
    """1 / (N (h + damping)); where nothing is retained, h is of the forget set."""
    n = len(retain.labels) + len(forget.labels)
    samples = retain if len(retain.labels) else forget
    curvature = measure_curvature(network, samples, direction, ctx)
    return 1 / (n * (curvature + compute_damping(recipe, n)))
