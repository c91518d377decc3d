"""Gradient ascent on the loss of the forgotten samples."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor, nn

from shared.errors import JobFailed
from shared.ml.context import Context
from shared.ml.loss import compute_loss
from shared.ml.records import StopReason
from shared.ml.samples import Samples
from shared.ml.training.private import compute_private_gradients
from shared.ml.training.sgd import require_finite
from shared.ml.unlearning import registry
from shared.ml.unlearning._held_out import HeldOutRule
from shared.ml.unlearning._inputs import UnlearningInputs
from shared.plugins import Params
from shared.roles import Role

SLACK = 1.1  # of the goal, up to which the last step may go
MAX_HALVINGS = 20  # of the last step


class GradientAscentParams(Params):
    steps: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description=(
            "ascent steps (paper: 1); null: until the loss reaches that of equally hard held-out "
            "samples of the same classes, but at most as many steps as training took"
        ),
    )
    lr: float | None = Field(
        None, gt=0, le=10, description="step size; null: the learning rate of training"
    )


@registry.register(
    "gradient_ascent",
    params=GradientAscentParams,
    needs=(Role.ORIGINAL,),
    source=(
        "the 'approximate' unlearning of Hu et al. 2024, arXiv 2404.03233; when to stop: Kurmanji "
        "et al. 2023, arXiv 2302.09880"
    ),
    exact=False,
    retain="optional",
)
def unlearn(
    inputs: UnlearningInputs,
    retain: Samples,  # only its size: ascent uses the forget set alone
    forget: Samples,
    params: GradientAscentParams,
    ctx: Context,
) -> nn.Module:
    """Approximate: theta_u = theta + lr * gradient of the mean loss on the forget set, step by
    step.

    The paper takes one step (`steps: 1`). By default, steps are taken until the loss on the forget
    set reaches that on equally hard held-out samples of its classes (`HeldOutRule`); a step that
    goes far beyond it is halved.
    There are at most as many as training took, and one where the loss is reached from the start or
    there are no held-out samples.

    BatchNorm statistics stay as they are (eval mode). If the original was trained by DP-SGD, so is
    each step here: gradients are clipped and get noise, as the change would otherwise be the plain
    gradient. Their number is `steps`, or 1: a rule that looks at the loss is not private.

    Raises:
        JobFailed: `invalid`, the loss or in the end a weight is not finite; names the step.
    """
    network = inputs.original.to(ctx.device).eval()
    recipe = inputs.get_recipe()
    lr = recipe.lr if params.lr is None else params.lr
    steps = params.steps or 1
    why_all: StopReason = "asked_for"
    rule: HeldOutRule | None = None
    if params.steps is None and not recipe.is_private:
        rule = HeldOutRule(network, inputs, retain, forget, ctx)
        if not rule.has_goal:
            why_all = "no_held_out"
        elif rule.measure_loss(network) >= rule.goal:  # already: the paper's step, at full length
            why_all, rule = "held_out_loss", None
        else:
            why_all = "as_training"
            steps = recipe.count_steps(len(retain.labels) + len(forget.labels))
    for step in range(steps):
        gradients = _compute_gradients(network, forget, inputs, ctx, step)
        _add(network, gradients, lr)
        ctx.report_progress(step + 1, steps)
        if rule is not None and _stop(network, gradients, lr, rule):
            inputs.record_stop(step + 1, "held_out_loss")
            break
    else:
        inputs.record_stop(steps, why_all)
    ctx.report_progress(steps, steps)
    require_finite(network, f"gradient ascent: after step {step}", "lower lr or steps")
    return network


def _compute_gradients(
    network: nn.Module, forget: Samples, inputs: UnlearningInputs, ctx: Context, step: int
) -> dict[str, Tensor]:
    """The gradient of the mean loss on the forget set, by weight."""
    recipe, weights = inputs.get_recipe(), dict(network.named_parameters())
    if recipe.is_private:
        loss, gradients = compute_private_gradients(
            network, forget, len(forget.labels), recipe, ctx, step
        )
    else:
        images, labels = (t.to(ctx.device) for t in forget)
        value = compute_loss(network(images), labels)
        loss, gradients = (
            value.item(),
            dict(zip(weights, torch.autograd.grad(value, [*weights.values()]), strict=True)),
        )
    if not math.isfinite(loss):
        raise JobFailed(
            "invalid",
            f"gradient ascent produced values that are not finite at step {step}; lower lr or "
            "steps",
        )
    return gradients


def _stop(network: nn.Module, gradients: dict[str, Tensor], lr: float, rule: HeldOutRule) -> bool:
    """Whether the loss is reached; if the last step went far beyond, it is halved until it does
    not."""
    loss = rule.measure_loss(network)
    for halving in range(1, MAX_HALVINGS + 1):
        if loss <= SLACK * rule.goal:  # false, too, where the step left the finite numbers
            break
        _add(network, gradients, -lr / 2**halving)
        loss = rule.measure_loss(network)
    return loss >= rule.goal


@torch.no_grad()
def _add(network: nn.Module, gradients: dict[str, Tensor], length: float) -> None:
    for name, weight in network.named_parameters():
        weight.add_(gradients[name], alpha=length)
