"""One gradient step that replaces the forgotten samples by uninformative ones."""

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
from shared.ml.unlearning._inputs import UnlearningInputs
from shared.plugins import Params
from shared.roles import Role


class FirstOrderParams(Params):
    tau: float = Field(1e-2, gt=0, le=10, description="unlearning rate: the length of the step")


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
    retain: Samples,  # noqa: ARG001  (a first-order update uses the replaced samples only)
    forget: Samples,
    params: FirstOrderParams,
    ctx: Context,
) -> nn.Module:
    """Approximate: theta_u = theta - tau * sum (grad l(x, y~) - grad l(x, y)) over the forget set.

    The paper leaves open what replaces a sample. Here it is its image without a class: y~ is 1 /
    classes for each.

    Raises:
        JobFailed: `invalid`, the loss or in the end a weight is not finite.
    """
    network = inputs.original.to(ctx.device).eval()
    images, labels = (t.to(ctx.device) for t in forget)
    weights = list(network.parameters())
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
    with torch.no_grad():
        for weight, gradient in zip(weights, torch.autograd.grad(change, weights), strict=True):
            weight.sub_(gradient, alpha=params.tau)
    require_finite(network, "first order: after step 0", "lower tau")
    ctx.report_progress(1, 1)
    return network
