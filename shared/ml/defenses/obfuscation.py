"""Blur the weights."""

from __future__ import annotations

from dataclasses import replace

import torch
from pydantic import Field
from torch import nn

from shared.ml.attack_io import WhiteBoxView
from shared.ml.context import Context
from shared.ml.defenses import registry
from shared.ml.networks import list_parameter_names
from shared.ml.records import PublicSets
from shared.ml.samples import Samples
from shared.plugins import Params
from shared.roles import Role

ENERGY_FLOOR = (
    1e-4  # share of the noise's energy; smaller changes cannot be distinguished from noise
)


class ObfuscationParams(Params):
    noise: float | None = Field(
        None,
        gt=0,
        le=100,
        description="standard deviation of the noise, as a multiple of each tensor's root mean "
        "square; null: chosen from the grid",
    )
    grid: list[float] = Field(
        [1e-5, 1e-4, 1e-3, 0.01, 0.03, 0.1, 0.2, 0.3],
        min_length=1,
        max_length=32,
        description="settings to try, weakest first",
    )
    releases_averaged: int = Field(
        1,
        ge=1,
        le=1000,
        description="number of releases with independent noise that an adaptive attacker is "
        "assumed to obtain and average; every other attacker gets a single release",
    )


def weight_by_noise(
    view: WhiteBoxView,
    params: ObfuscationParams,
    public: PublicSets,  # noqa: ARG001 - every adaptive view has this signature
    ctx: Context,  # noqa: ARG001 - as above
) -> WhiteBoxView:
    """Weight each tensor by its noise level, which its scale reveals, relative to the change that
    all share.

    A coordinate's weight is 1 / sqrt(noise variance + mean square of the change): least squares if
    noise dominates, and equal weights if there is hardly any. Several releases are averaged, which
    reduces the noise accordingly.
    """
    assert params.noise is not None
    before, after = view.original.state, view.unlearned.state
    names = list_parameter_names(view.original)
    changes = {n: (after[n].double() - before[n].double()).flatten(1) for n in names}
    noise_variance = params.noise**2 / params.releases_averaged
    noise = {
        n: noise_variance * before[n].double().flatten(1).square().mean(1).expand(len(changes[n]))
        for n in names
    }
    size = sum(m.shape[1] for m in changes.values())
    noise_energy = torch.stack([noise[n] * changes[n].shape[1] for n in names]).sum(0)
    change_energy = (
        torch.stack([m.square().sum(1) for m in changes.values()]).sum(0) - noise_energy
    ).clamp_min(noise_energy * ENERGY_FLOOR)
    weights = {n: (noise[n] + change_energy / size).rsqrt() for n in names}
    max_weight = torch.stack([*weights.values()]).amax(0)
    coordinate_weights = {}
    for n, weight in weights.items():
        per_deletion = (weight / max_weight).float().view(-1, *[1] * (after[n].dim() - 1))
        coordinate_weights[n] = per_deletion.expand_as(after[n])
    return replace(view, coordinate_weights=coordinate_weights)


@registry.register(
    "obfuscation",
    params=ObfuscationParams,
    produces=(Role.AVERAGED_RELEASES,),
    source="'parameter obfuscation' of Hu et al. 2024, arXiv 2404.03233",
    adaptive_view=weight_by_noise,
    strength="noise",
)
def release(
    network: nn.Module,
    retain: Samples,  # noqa: ARG001 - every defense has this signature
    params: ObfuscationParams,
    ctx: Context,
) -> nn.Module:
    """Add Gaussian noise to every weight before release.

    Each tensor's noise has the standard deviation `noise` times the root mean square of the tensor.
    It is drawn once per release: an attacker who gets several releases of one model averages it
    away (AVERAGED_RELEASES: the mean of `releases_averaged`).
    """
    assert params.noise is not None
    with torch.no_grad():
        for name, weight in network.named_parameters():
            drawn = torch.randn(weight.shape, generator=ctx.make_generator(f"obfuscation {name}"))
            scale = params.noise * weight.square().mean().sqrt()
            weight.add_(drawn.to(weight.device) * scale)
    return network
