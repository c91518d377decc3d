"""Noise where the weights do not matter for what stays."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from shared.ml.context import Context
from shared.ml.datasets._base import Samples
from shared.ml.unlearning import registry
from shared.ml.unlearning._inputs import UnlearningInputs
from shared.registry import Params

TINY = 1e-8  # of the Fisher information, below which a weight counts as of no use at all


class FisherParams(Params):
    alpha: float = Field(1e-7, gt=0, le=1, description="strength: the noise of a weight has variance alpha / sqrt(F)")
    largest: float = Field(0.1, gt=0, le=100, description="standard deviation of the noise at most, in median weights")


@registry.register(
    "fisher",
    params=FisherParams,
    needs=("ORIGINAL",),
    source="Golatkar et al. 2020, arXiv 1911.04933, equation 10",
    traits={"exact": False},
)
def unlearn(
    inputs: UnlearningInputs,
    retain: Samples,
    forget: Samples,  # noqa: ARG001  (what matters for what stays is all it looks at)
    params: FisherParams,
    ctx: Context,
) -> nn.Module:
    """Approximate: theta + (alpha^2 / F)^(1/4) * noise, F the diagonal of the Fisher information of the retain set.

    The published method needs a forgetting direction of its own for every class; this is its noise alone.
    """
    network = inputs.original.to(ctx.device).eval()
    source = ctx.generator("noise")
    information = _fisher(network, retain, ctx)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            spread = (params.alpha**2 / (information[name] + TINY)).pow(0.25)
            spread = spread.clamp(max=params.largest * weight.abs().median().item())
            weight.add_(torch.randn(weight.shape, generator=source).to(ctx.device) * spread)
    return network


def _fisher(network: nn.Module, samples: Samples, ctx: Context) -> dict[str, Tensor]:
    """Mean over the samples of the squared gradient of the loss, by weight."""
    weights = dict(network.named_parameters())
    found = {name: torch.zeros_like(w) for name, w in weights.items()}
    n = len(samples.labels)
    for i in range(n):
        images, labels = (t.to(ctx.device) for t in samples.pick([i]))
        gradients = torch.autograd.grad(cross_entropy(network(images), labels), list(weights.values()))
        for name, gradient in zip(weights, gradients, strict=True):
            found[name] += gradient.detach().square() / n
        ctx.progress(i + 1, n)
    return found
