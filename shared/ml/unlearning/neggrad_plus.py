"""Descent on the retain set, ascent on the forget set."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from shared.ml.context import Context
from shared.ml.loss import compute_loss
from shared.ml.samples import Samples
from shared.ml.training.sgd import descend
from shared.ml.unlearning import registry
from shared.ml.unlearning._held_out import ClosestEpoch, HeldOutRule
from shared.ml.unlearning._inputs import UnlearningInputs
from shared.ml.unlearning._steps import StepParams, take_cyclic_batch
from shared.roles import Role


class NegGradPlusParams(StepParams):
    alpha: float = Field(
        0.95,
        gt=0,
        le=1,
        description=(
            "weight of the loss on the retain set; the ascent on the forget set has weight 1 - "
            "alpha"
        ),
    )


@registry.register(
    "neggrad_plus",
    params=NegGradPlusParams,
    needs=(Role.ORIGINAL,),
    source="Kurmanji et al. 2023, arXiv 2302.09880, baseline NegGrad+",
    exact=False,
)
def unlearn(
    inputs: UnlearningInputs,
    retain: Samples,
    forget: Samples,
    params: NegGradPlusParams,
    ctx: Context,
) -> nn.Module:
    """Approximate: minimise alpha * L(retain) - (1 - alpha) * L(forget), with a batch of each per
    step.

    The ascent is bounded: a batch of the forget set counts as long as its loss is below that of
    equally hard held-out samples of the same classes (`HeldOutRule`), and the epoch is released
    whose forget loss is closest to it.

    Raises:
        JobFailed: `invalid`, the loss is not finite.
    """
    network, recipe = inputs.original.to(ctx.device), params.to_recipe(inputs.recipe)
    rule = HeldOutRule(network, inputs, retain, forget, ctx)
    closest = ClosestEpoch(rule)

    def compute_loss_of(batch: Samples) -> Tensor:
        # one sample has no BatchNorm statistics of its own
        network.train(recipe.batch_norm == "trained" and len(batch.labels) > 1)
        return compute_loss(network(batch.images.to(ctx.device)), batch.labels.to(ctx.device))

    def compute_batch_loss(batch: Tensor, step: int) -> Tensor:
        retain_loss = compute_loss_of(retain.pick(batch))
        forget_loss = compute_loss_of(take_cyclic_batch(forget, step, recipe.batch_size))
        return params.alpha * retain_loss - (1 - params.alpha) * forget_loss.clamp(max=rule.goal)

    descend(
        network, len(retain.labels), recipe, ctx, compute_batch_loss,
        after_epoch=lambda steps: closest.observe(network, steps),
    )  # fmt: skip
    closest.rewind(network, inputs)
    return network
