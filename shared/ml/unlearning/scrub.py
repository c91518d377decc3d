"""A student that leaves its teacher where it must forget, and stays with it elsewhere."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax

from shared.errors import JobFailed
from shared.ml.context import Context, Part
from shared.ml.loss import compute_loss
from shared.ml.networks import clone
from shared.ml.samples import Samples
from shared.ml.training.sgd import descend
from shared.ml.unlearning import registry
from shared.ml.unlearning._inputs import UnlearningInputs
from shared.ml.unlearning._steps import StepParams
from shared.roles import Role


class ScrubParams(StepParams):
    alpha: float = Field(0.5, ge=0, le=10, description="weight of the divergence on the retain set, beside its loss")
    max_epochs: int = Field(3, ge=1, le=1000, description="first epochs that begin with a pass away from the teacher")
    temperature: float = Field(2.0, gt=0, le=100, description="softens both distributions that are compared")


@registry.register(
    "scrub",
    params=ScrubParams,
    needs=(Role.ORIGINAL,),
    source="Kurmanji et al. 2023, arXiv 2302.09880, equation 3 and algorithm 1",
    exact=False,
)
def unlearn(
    inputs: UnlearningInputs,
    retain: Samples,
    forget: Samples,
    params: ScrubParams,
    ctx: Context,
) -> nn.Module:
    """Approximate: raise the divergence from the original's answers on the forget set, keep it low on the retain set.

    As published, each of the first `max_epochs` epochs goes up over the forget set, then down over the retain set;
    the others go down only. The weight of the loss (gamma in the paper) is 1. Momentum starts anew with each pass.
    The first pass starts where student and teacher are one, and there the divergence has no slope: one batch of it
    changes nothing.

    Raises:
        JobFailed: `invalid`, the loss or in the end a weight is not finite; names the pass and its step.
    """
    student = inputs.original
    teacher = clone(student).to(ctx.device).eval().requires_grad_(False)
    once = params.recipe().model_copy(update={"epochs": 1})

    def apart(images: Tensor) -> Tensor:
        soft, told = (log_softmax(n(images) / params.temperature, dim=1) for n in (student, teacher))
        return kl_div(soft, told, reduction="batchmean", log_target=True) * params.temperature**2

    def away(picked: Tensor, _step: int) -> Tensor:
        return -apart(forget.images[picked].to(ctx.device))

    def near(picked: Tensor, _step: int) -> Tensor:
        images, labels = (t.to(ctx.device) for t in retain.pick(picked))
        return compute_loss(student(images), labels) + params.alpha * apart(images)

    passes = []
    for epoch in range(params.epochs):
        if epoch < params.max_epochs:
            passes.append((len(forget.labels), away))
        passes.append((len(retain.labels), near))
    for index, (n, loss_of) in enumerate(passes):
        try:
            descend(student, n, once, Part(ctx, index, len(passes)), loss_of)
        except JobFailed as failed:
            raise JobFailed(failed.kind, f"scrub, pass {index} of {len(passes)}: {failed.message}") from failed
    return student
