"""SISA: only the ensemble members that saw the forget set are retrained."""

from __future__ import annotations

from pydantic import Field
from torch import nn

from shared.ml.context import Context, SubContext
from shared.ml.networks import clone
from shared.ml.samples import Samples
from shared.ml.training.sgd import train
from shared.ml.unlearning import registry
from shared.ml.unlearning._inputs import UnlearningInputs
from shared.plugins import Params
from shared.roles import Role


class SisaParams(Params):
    shards: int = Field(
        5, ge=2, le=100, description="number of models, each trained on a part of the data"
    )


@registry.register(
    "sisa",
    params=SisaParams,
    needs=(Role.ORIGINAL, Role.BASE, Role.RECIPE, Role.SHARDS),
    trains=("shards",),
    source="Bourtoule et al. 2021, arXiv 1912.03817, section IV",
    exact=True,
    retain="optional",
)
def unlearn(
    inputs: UnlearningInputs,
    retain: Samples,
    forget: Samples,  # noqa: ARG001  (retraining never sees it)
    params: SisaParams,  # noqa: ARG001  (their number is that of training)
    ctx: Context,
) -> nn.Module:
    """Exact: the original is an ensemble, and the members that saw the forget set are retrained
    without it.

    Outputs are averaged. The paper's slices are left out: they save retraining time, from a
    checkpoint inside the shard, and lead to the same kind of model. A shard with no samples left is
    the base model again.
    """
    base, recipe = inputs.require_retraining()
    ensemble, retain_members, forget_members = inputs.require_shards()
    affected_members = forget_members.unique().tolist()
    for done, member in enumerate(affected_members):
        network, positions = clone(base), (retain_members == member).nonzero().flatten()
        if len(positions):
            train(
                network,
                retain.pick(positions),
                recipe,
                SubContext(ctx, done, len(affected_members)),
            )
        ensemble.members[member] = network
    return ensemble
