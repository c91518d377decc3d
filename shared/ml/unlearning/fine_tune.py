"""Continue training without the forgotten samples."""

from __future__ import annotations

from pydantic import Field
from torch import nn

from shared.ml.context import Context
from shared.ml.samples import Samples
from shared.ml.training.sgd import train
from shared.ml.unlearning import registry
from shared.ml.unlearning._inputs import UnlearningInputs
from shared.ml.unlearning._steps import MAX_LR, StepParams
from shared.roles import Role


class FineTuneParams(StepParams):
    lr_factor = 3.0

    lr: float | None = Field(
        None,
        gt=0,
        le=MAX_LR,
        description=(
            "learning rate; null: three times the highest of training ('slightly large' in the "
            "paper)"
        ),
    )


@registry.register(
    "fine_tune",
    params=FineTuneParams,
    needs=(Role.ORIGINAL,),
    source="Golatkar et al. 2020, arXiv 1911.04933, baseline 'fine-tune'",
    exact=False,
)
def unlearn(
    inputs: UnlearningInputs,
    retain: Samples,
    forget: Samples,  # noqa: ARG001  (never seen again)
    params: FineTuneParams,
    ctx: Context,
) -> nn.Module:
    """Approximate: continue training on the retain set alone; samples that are no longer seen are
    gradually forgotten.

    Raises:
        JobFailed: `invalid`, the loss is not finite.
    """
    train(inputs.original, retain, params.to_recipe(inputs.recipe), ctx)
    return inputs.original
