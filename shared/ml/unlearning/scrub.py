"""A student that diverges from its teacher on the forget set and stays close elsewhere."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax

from shared.errors import JobFailed
from shared.ml.context import Context, SeededSubContext
from shared.ml.loss import compute_loss
from shared.ml.networks import clone
from shared.ml.samples import Samples
from shared.ml.training.sgd import descend
from shared.ml.unlearning import registry
from shared.ml.unlearning._inputs import UnlearningInputs
from shared.ml.unlearning._steps import StepParams
from shared.roles import Role


class ScrubParams(StepParams):
    alpha: float = Field(
        0.5,
        ge=0,
        le=10,
        description="weight of the divergence on the retain set, relative to its loss",
    )
    max_epochs: int = Field(
        3,
        ge=1,
        le=1000,
        description="number of initial epochs that begin with a pass away from the teacher",
    )
    temperature: float = Field(
        2.0, gt=0, le=100, description="softens the two distributions that are compared"
    )


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
    """Approximate: raise the divergence from the original's outputs on the forget set, keep it low
    on the retain set.

    As published, each of the first `max_epochs` epochs is an ascent pass over the forget set, then
    a descent pass over the retain set; the others are descent passes only. The weight of the loss
    (gamma in the paper) is 1. Momentum is reset with each pass. The first pass starts where student
    and teacher are equal and the divergence has no gradient, so its first batch changes nothing.

    Raises:
        JobFailed: `invalid`, the loss or in the end a weight is not finite; names the pass and its
            step.
    """
    student = inputs.original
    teacher = clone(student).to(ctx.device).eval().requires_grad_(False)
    one_epoch = params.to_recipe().model_copy(update={"epochs": 1})

    def teacher_divergence(images: Tensor) -> Tensor:
        student_log_probs, teacher_log_probs = (
            log_softmax(n(images) / params.temperature, dim=1) for n in (student, teacher)
        )
        return (
            kl_div(student_log_probs, teacher_log_probs, reduction="batchmean", log_target=True)
            * params.temperature**2
        )

    def compute_forget_loss(batch: Tensor, _step: int) -> Tensor:
        return -teacher_divergence(forget.images[batch].to(ctx.device))

    def compute_retain_loss(batch: Tensor, _step: int) -> Tensor:
        images, labels = (t.to(ctx.device) for t in retain.pick(batch))
        return compute_loss(student(images), labels) + params.alpha * teacher_divergence(images)

    passes = []
    for epoch in range(params.epochs):
        if epoch < params.max_epochs:
            passes.append((len(forget.labels), compute_forget_loss))
        passes.append((len(retain.labels), compute_retain_loss))
    for index, (n, compute_batch_loss) in enumerate(passes):
        try:
            descend(
                student, n, one_epoch, SeededSubContext(ctx, index, len(passes)), compute_batch_loss
            )
        except JobFailed as error:
            raise JobFailed(
                error.kind, f"scrub, pass {index} of {len(passes)}: {error.message}"
            ) from error
    return student
