"""A student that leaves its teacher where it must forget, and stays with it elsewhere."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from shared.ml.context import Context
from shared.ml.datasets._base import Samples
from shared.ml.networks import clone
from shared.ml.training.sgd import descend
from shared.ml.unlearning import registry
from shared.ml.unlearning._inputs import UnlearningInputs
from shared.ml.unlearning._steps import StepParams, cycled


class ScrubParams(StepParams):
    alpha: float = Field(0.5, ge=0, le=10, description="weight of the divergence on the retain set, beside its loss")
    max_epochs: int = Field(3, ge=1, le=1000, description="first epochs in which every other step leaves the teacher")
    temperature: float = Field(2.0, gt=0, le=100, description="softens both distributions that are compared")


@registry.register(
    "scrub",
    params=ScrubParams,
    needs=("ORIGINAL",),
    source="Kurmanji et al. 2023, arXiv 2302.09880, equation 3 and algorithm 1",
    traits={"exact": False},
)
def unlearn(
    inputs: UnlearningInputs,
    retain: Samples,
    forget: Samples,
    params: ScrubParams,
    ctx: Context,
) -> nn.Module:
    """Approximate: raise the divergence from the original's answers on the forget set, keep it low on the retain set.

    The published epochs of ascent and descent alternate by step here: forget sets are as small as one sample.

    Raises:
        JobFailed: `invalid`, the loss is not finite.
    """
    student = inputs.original
    teacher = clone(student).to(ctx.device).eval().requires_grad_(False)
    recipe = params.recipe()
    climbing = recipe.steps(len(retain.labels)) * params.max_epochs // params.epochs

    def apart(images: Tensor) -> Tensor:
        soft, told = (log_softmax(n(images) / params.temperature, dim=1) for n in (student, teacher))
        return kl_div(soft, told, reduction="batchmean", log_target=True) * params.temperature**2

    def loss_of(picked: Tensor, step: int) -> Tensor:
        if step < climbing and step % 2 == 0:
            return -apart(cycled(forget, step // 2, params.batch_size).images.to(ctx.device))
        images, labels = (t.to(ctx.device) for t in retain.pick(picked))
        return cross_entropy(student(images), labels) + params.alpha * apart(images)

    descend(student, len(retain.labels), recipe, ctx, loss_of)
    return student
