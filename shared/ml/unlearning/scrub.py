"""A student that diverges from its teacher on the forget set and stays close elsewhere."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax

from shared.errors import JobFailed
from shared.ml.context import Context
from shared.ml.loss import compute_loss
from shared.ml.networks import clone
from shared.ml.samples import Samples
from shared.ml.training.sgd import build_optimiser, require_finite
from shared.ml.unlearning import registry
from shared.ml.unlearning._held_out import ClosestEpoch, HeldOutRule
from shared.ml.unlearning._inputs import UnlearningInputs
from shared.ml.unlearning._steps import StepParams
from shared.roles import Role

PAPER_LR = 5e-4  # where nobody knows how the original was trained


class ScrubParams(StepParams):
    alpha: float = Field(
        0.5,
        ge=0,
        le=10,
        description="weight of the divergence on the retain set, relative to its loss",
    )
    max_epochs: int | None = Field(
        None,
        ge=1,
        le=1000,
        description=(
            "number of initial epochs that begin with a pass away from the teacher (paper: 3 of "
            "10); null: all but the last quarter"
        ),
    )
    temperature: float = Field(
        2.0, gt=0, le=100, description="softens the two distributions that are compared"
    )
    rewind: bool = Field(
        True,
        description=(
            "release the epoch whose forget loss is closest to that of held-out samples; false: "
            "the last epoch"
        ),
    )


@registry.register(
    "scrub",
    params=ScrubParams,
    needs=(Role.ORIGINAL,),
    source="Kurmanji et al. 2023, arXiv 2302.09880, equation 3, algorithm 1 and section 3.2",
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
    a descent pass over the retain set; the others are descent passes only; one optimiser takes all
    steps. The weight of the loss (gamma in the paper) is 1. The first pass starts where student and
    teacher are equal and the divergence has no gradient, so without BatchNorm its first batch
    changes nothing. `rewind` is SCRUB+R, by the loss instead of the error, compared with the
    original's on equally hard held-out samples (`HeldOutRule`).

    Raises:
        JobFailed: `invalid`, the loss or in the end a weight is not finite; names the step.
    """
    recipe = params.to_recipe(inputs.recipe)
    if inputs.recipe is None and params.lr is None:
        recipe = recipe.model_copy(update={"lr": PAPER_LR})
    student = inputs.original.to(ctx.device)
    teacher = clone(student).eval().requires_grad_(False)
    closest = ClosestEpoch(HeldOutRule(student, inputs, retain, forget, ctx))
    max_epochs = math.ceil(0.75 * recipe.epochs) if params.max_epochs is None else params.max_epochs
    optimiser = build_optimiser(student, recipe)
    passes = [
        (epoch, away, forget if away else retain)
        for epoch in range(recipe.epochs)
        for away in (True, False)
        if epoch < max_epochs or not away
    ]
    total = sum(math.ceil(len(samples.labels) / recipe.batch_size) for *_, samples in passes)
    steps = 0

    def compute_divergence(images: Tensor) -> Tensor:
        student_log_probs, teacher_log_probs = (
            log_softmax(n(images) / params.temperature, dim=1) for n in (student, teacher)
        )
        return (
            kl_div(student_log_probs, teacher_log_probs, reduction="batchmean", log_target=True)
            * params.temperature**2
        )

    for epoch, away, samples in passes:
        purpose = f"epoch {epoch}, {'away' if away else 'close'}"
        order = torch.randperm(len(samples.labels), generator=ctx.make_generator(purpose))
        for batch in order.split(recipe.batch_size):
            # one sample has no statistics of its own
            student.train(recipe.batch_norm == "trained" and len(batch) > 1)
            images, labels = (t.to(ctx.device) for t in samples.pick(batch))
            divergence = compute_divergence(images)
            loss = (
                -divergence
                if away
                else compute_loss(student(images), labels) + params.alpha * divergence
            )
            if not math.isfinite(loss.item()):
                raise JobFailed(
                    "invalid",
                    f"scrub diverged: the loss at step {steps} is {loss.item()}; lower lr",
                )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            steps += 1
            ctx.report_progress(steps, total, loss=loss.item())
        if not away:
            closest.observe(student, steps)
    student.eval()
    if params.rewind:
        closest.rewind(student, inputs)
    else:
        inputs.record_stop(steps, "asked_for")
    require_finite(student, "scrub: after the last epoch", "lower lr")
    return student
