"""Descent on the retain set, ascent on the forget set."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from shared.ml.context import Context
from shared.ml.loss import compute_loss
from shared.ml.samples import Samples
from shared.ml.training.sgd import descend
from shared.ml.unlearning import registry
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

    Raises:
        JobFailed: `invalid`, the loss is not finite.
    """
    network = inputs.original

    def compute_batch_loss(batch: Tensor, step: int) -> Tensor:
        retain_loss, forget_loss = (
            compute_loss(network(images.to(ctx.device)), labels.to(ctx.device))
            for images, labels in (
                retain.pick(batch),
                take_cyclic_batch(forget, step, params.batch_size),
            )
        )
        return params.alpha * retain_loss - (1 - params.alpha) * forget_loss

    descend(network, len(retain.labels), params.to_recipe(), ctx, compute_batch_loss)
    return network
