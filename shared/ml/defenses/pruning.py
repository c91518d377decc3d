"""Drop the small weights."""

from __future__ import annotations

from dataclasses import replace

import torch
from pydantic import Field
from torch import nn

from shared.ml.attack_io import WhiteBoxView
from shared.ml.context import Context
from shared.ml.defenses import registry
from shared.ml.networks import Networks, list_parameter_names
from shared.ml.records import PublicSets
from shared.ml.samples import Samples
from shared.plugins import Params


class PruningParams(Params):
    share: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of the weights that becomes zero; null: chosen from the grid",
    )
    grid: list[float] = Field(
        [0.1, 0.3, 0.5, 0.7, 0.8, 0.9],
        min_length=1,
        max_length=32,
        description="settings to try, weakest first",
    )


def weight_survivors(
    view: WhiteBoxView,
    params: PruningParams,  # noqa: ARG001 - every adaptive view has this signature
    public: PublicSets,  # noqa: ARG001 - as above
    ctx: Context,  # noqa: ARG001 - as above
) -> WhiteBoxView:
    """Use only surviving weights: a pruned weight is exactly zero, all others hold the exact
    change.

    Pruned weights are assumed to be as in ORIGINAL.
    """
    before, unlearned = view.original.state, view.unlearned
    state, coordinate_weights = dict(unlearned.state), {}
    for name in list_parameter_names(view.original):
        # [D, ..]
        survived = (
            state[name] != 0
            if state[name].dim() > 2
            else torch.ones_like(state[name], dtype=torch.bool)
        )
        state[name], coordinate_weights[name] = (
            torch.where(survived, state[name], before[name]),
            survived.float(),
        )
    return replace(
        view,
        unlearned=Networks(unlearned.architecture, state, unlearned.count),
        coordinate_weights=coordinate_weights,
    )


@registry.register(
    "pruning",
    params=PruningParams,
    source="'model pruning' of Hu et al. 2024, arXiv 2404.03233; by magnitude as Han et al. 2015",
    adaptive_view=weight_survivors,
    strength="share",
)
def release(
    network: nn.Module,
    retain: Samples,  # noqa: ARG001 - every defense has this signature
    params: PruningParams,
    ctx: Context,  # noqa: ARG001 - as above
) -> nn.Module:
    """Set the smallest weights over all layers to zero before release; biases and BatchNorm stay.

    The surviving coordinates still hold the exact change: an adaptive attacker uses only those.
    """
    assert params.share is not None
    kernels = [weight for weight in network.parameters() if weight.dim() > 1]
    sizes = torch.cat([weight.detach().abs().flatten() for weight in kernels])
    smallest = sizes.kthvalue(max(1, int(params.share * len(sizes)))).values
    with torch.no_grad():
        for weight in kernels:
            weight.mul_(weight.abs() > smallest)
    return network
