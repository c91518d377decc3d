"""Blur the weights."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn

from shared.ml.context import Context
from shared.ml.datasets._base import Samples
from shared.ml.defenses import registry
from shared.registry import Params


class ObfuscationParams(Params):
    noise: float | None = Field(
        None, gt=0, le=100, description="standard deviation, in units of each tensor's own; none: chosen from the grid"
    )
    grid: list[float] = Field(
        [0.01, 0.03, 0.1, 0.2, 0.3], min_length=1, max_length=32, description="settings to try, weakest first"
    )


@registry.register(
    "obfuscation",
    params=ObfuscationParams,
    source="'parameter obfuscation' of Hu et al. 2024, arXiv 2404.03233",
    traits={"strength": "noise"},
)
def release(network: nn.Module, retain: Samples, params: ObfuscationParams, ctx: Context) -> nn.Module:  # noqa: ARG001 - every defense has this signature
    """Add Gaussian noise to every weight before release.

    Each tensor's noise has the standard deviation `noise` times the root mean square of the tensor. It is drawn
    once a release: whoever gets several releases of one model could average it away.
    """
    assert params.noise is not None
    with torch.no_grad():
        for name, weight in network.named_parameters():
            drawn = torch.randn(weight.shape, generator=ctx.generator(f"obfuscation {name}"))
            scale = params.noise * weight.square().mean().sqrt()
            weight.add_(drawn.to(weight.device) * scale)
    return network
