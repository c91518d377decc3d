"""Train on before release."""

from __future__ import annotations

from dataclasses import replace

import torch
from pydantic import Field
from torch import nn

from shared.ml.attack_io import WhiteBoxView
from shared.ml.context import Context, SeededSubContext
from shared.ml.defenses import registry
from shared.ml.networks import Networks, list_parameter_names
from shared.ml.records import PublicSets
from shared.ml.samples import Samples
from shared.ml.training.recipe import Recipe
from shared.ml.training.sgd import train
from shared.plugins import Params


class FineTuneParams(Params):
    epochs: int | None = Field(
        None, ge=1, le=1000, description="passes over the retain set; null: chosen from the grid"
    )
    grid: list[int] = Field(
        [1, 2, 5, 10, 20], min_length=1, max_length=32, description="settings to try, weakest first"
    )
    lr: float = Field(
        1e-3, gt=0, le=10, description="learning rate; the default is that of the train stage"
    )
    batch_size: int = Field(16, ge=1, le=65536, description="samples per step")


def subtract_drift(
    view: WhiteBoxView, params: FineTuneParams, public: PublicSets, ctx: Context
) -> WhiteBoxView:
    """Fine-tune ORIGINAL on public samples by the same recipe, and subtract that change from the
    release.

    The change is averaged over several public sets, as that of a single set contains the drift of
    its own samples.

    Raises:
        InvalidRequest: there are no public samples.
    """
    original, unlearned, sets = view.original, view.unlearned, public.load_samples()
    state = dict(unlearned.state)
    for index, samples in enumerate(sets):
        set_ctx = SeededSubContext(ctx, index, len(sets))
        starts = [
            (original.load_network(i), SeededSubContext(set_ctx, i, original.count))
            for i in range(original.count)
        ]
        tuned = [
            release(network, samples, params, part).cpu().state_dict() for network, part in starts
        ]
        for name in list_parameter_names(original):
            drift = torch.stack([weights[name] for weights in tuned]) - original.state[name]
            state[name] = state[name] - drift / len(sets)
    return replace(view, unlearned=Networks(unlearned.architecture, state, unlearned.count))


@registry.register(
    "fine_tune",
    params=FineTuneParams,
    source="'fine-tuning' of Hu et al. 2024, arXiv 2404.03233",
    adaptive_view=subtract_drift,
    strength="epochs",
)
def release(network: nn.Module, retain: Samples, params: FineTuneParams, ctx: Context) -> nn.Module:
    """Fine-tune on the retain set before release, so that the weight change is not due to the
    forgotten samples alone.

    Plain SGD with BatchNorm frozen.
    """
    assert params.epochs is not None
    recipe = Recipe(epochs=params.epochs, lr=params.lr, batch_size=params.batch_size)
    train(network, retain, recipe, ctx)
    return network
