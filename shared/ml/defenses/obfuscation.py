"""Blur the weights."""

from __future__ import annotations

from dataclasses import replace

import torch
from pydantic import Field
from torch import nn

from shared.ml.context import Context
from shared.ml.defenses import registry
from shared.ml.networks import parameters
from shared.ml.observations import Observation
from shared.ml.records import Public
from shared.ml.samples import Samples
from shared.plugins import Params
from shared.roles import Role

FLOOR = 1e-4  # of the noise's energy; below it no change can be told from noise


class ObfuscationParams(Params):
    noise: float | None = Field(
        None, gt=0, le=100, description="standard deviation, in units of each tensor's own; none: chosen from the grid"
    )
    grid: list[float] = Field(
        [0.01, 0.03, 0.1, 0.2, 0.3], min_length=1, max_length=32, description="settings to try, weakest first"
    )
    draws: int = Field(
        1,
        ge=1,
        le=1000,
        description="times that an attacker who knows the defense can fetch the release, each with noise of its own: "
        "an assumption on the service, which releases one draw",
    )


def weighed(observation: Observation, params: ObfuscationParams, public: Public, ctx: Context) -> Observation:  # noqa: ARG001 - every counter has this signature
    """Trust each tensor by how little noise it got, which its size tells, beside the change that all share.

    A coordinate's worth is 1 / sqrt(noise variance + mean square of the change): where the noise drowns the change
    that is least squares, and where there is next to none all are worth the same. Of several fetches the mean is
    attacked, whose noise is as much smaller.
    """
    assert params.noise is not None
    before, after = observation.original.state, observation.unlearned.state
    names = parameters(observation.original)
    moved = {n: (after[n].double() - before[n].double()).flatten(1) for n in names}
    share = params.noise**2 / params.draws
    noise = {n: share * before[n].double().flatten(1).square().mean(1).expand(len(moved[n])) for n in names}
    size = sum(m.shape[1] for m in moved.values())
    drowned = torch.stack([noise[n] * moved[n].shape[1] for n in names]).sum(0)
    change = (torch.stack([m.square().sum(1) for m in moved.values()]).sum(0) - drowned).clamp_min(drowned * FLOOR)
    worth = {n: (noise[n] + change / size).rsqrt() for n in names}
    most = torch.stack([*worth.values()]).amax(0)
    return replace(observation, trust={
        n: (w / most).float().view(-1, *[1] * (after[n].dim() - 1)).expand_as(after[n]) for n, w in worth.items()
    })  # fmt: skip


@registry.register(
    "obfuscation",
    params=ObfuscationParams,
    produces=(Role.FETCHED,),
    source="'parameter obfuscation' of Hu et al. 2024, arXiv 2404.03233",
    counter=weighed,
    strength="noise",
)
def release(network: nn.Module, retain: Samples, params: ObfuscationParams, ctx: Context) -> nn.Module:  # noqa: ARG001 - every defense has this signature
    """Add Gaussian noise to every weight before release.

    Each tensor's noise has the standard deviation `noise` times the root mean square of the tensor. It is drawn
    once a release: who gets several releases of one model averages it away (FETCHED: the mean of `draws`).
    """
    assert params.noise is not None
    with torch.no_grad():
        for name, weight in network.named_parameters():
            drawn = torch.randn(weight.shape, generator=ctx.generator(f"obfuscation {name}"))
            scale = params.noise * weight.square().mean().sqrt()
            weight.add_(drawn.to(weight.device) * scale)
    return network
