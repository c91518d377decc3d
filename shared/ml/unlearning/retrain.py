"""Retraining without the forgotten samples."""

from __future__ import annotations

from torch import nn

from shared.ml.context import Context
from shared.ml.samples import Samples
from shared.ml.training.sgd import train
from shared.ml.unlearning import registry
from shared.ml.unlearning._inputs import UnlearningInputs
from shared.plugins import Params
from shared.roles import Role


class RetrainParams(Params):
    pass


@registry.register(
    "retrain",
    params=RetrainParams,
    needs=(Role.ORIGINAL, Role.BASE, Role.RECIPE),
    source="the 'exact' unlearning of Hu et al. 2024, arXiv 2404.03233",
    exact=True,
    retain="optional",
)
def unlearn(
    inputs: UnlearningInputs,
    retain: Samples,
    forget: Samples,  # noqa: ARG001  (retraining never sees it)
    params: RetrainParams,  # noqa: ARG001  (there are none)
    ctx: Context,
) -> nn.Module:
    """Exact: repeat the recipe from the base model on the retain set alone. If nothing is retained,
    the base model."""
    base, recipe = inputs.require_retraining()
    if len(retain.labels):
        train(base, retain, recipe, ctx)
    return base
