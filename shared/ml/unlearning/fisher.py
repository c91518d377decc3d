"""Noise on weights that do not matter for the retain set."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from shared.errors import JobFailed
from shared.ml.context import Context
from shared.ml.samples import Samples
from shared.ml.training.sgd import compute_logits, require_finite
from shared.ml.unlearning import registry
from shared.ml.unlearning._held_out import HeldOutRule
from shared.ml.unlearning._inputs import UnlearningInputs
from shared.plugins import Params
from shared.roles import Role

FISHER_FLOOR = 1e-8  # of the Fisher information, below which a weight counts as irrelevant
ALPHAS = tuple(10 ** (exponent / 4) for exponent in range(-48, 1))  # weakest first
MAX_COST = 0.02  # of accuracy on the retain set
MAX_JUDGED = 2048  # retained samples that it is measured on
CLASS_CHUNK = 16  # classes whose gradients are held at a time


class FisherParams(Params):
    alpha: float | None = Field(
        None,
        gt=0,
        le=1,
        description=(
            "strength: the noise of a weight has variance alpha / sqrt(F); null: the greatest that "
            "costs at most two points of accuracy on the retain set, but no greater than is needed "
            "to raise the forget loss to that of held-out samples"
        ),
    )
    largest: float = Field(
        1.0,
        gt=0,
        le=100,
        description=(
            "maximum standard deviation of the noise, as a multiple of the layer's median "
            "absolute weight"
        ),
    )


@registry.register(
    "fisher",
    params=FisherParams,
    needs=(Role.ORIGINAL,),
    source="Golatkar et al. 2020, arXiv 1911.04933, Fisher forgetting",
    exact=False,
)
def unlearn(
    inputs: UnlearningInputs,
    retain: Samples,
    forget: Samples,
    params: FisherParams,
    ctx: Context,
) -> nn.Module:
    """Approximate: theta + sqrt(alpha) * F^(-1/4) * noise, F the diagonal of the Fisher information
    of the retain set.

    alpha^2 is the paper's lambda * sigma^2. Its published code has F^(-1/2) instead, and a
    different bound for each kind of layer; here one bound holds for all: `largest`, in units of the
    median size of the layer's weights. The papers choose the strength by hand; by default it is as
    strong as two points of accuracy on the retain set allow.

    Raises:
        JobFailed: `invalid`, an output or in the end a weight is not finite; names the sample.
    """
    network = inputs.original.to(ctx.device).eval()
    generator = ctx.make_generator("noise")
    information = compute_fisher_information(network, retain, ctx)
    rule = HeldOutRule(network, inputs, retain, forget, ctx)
    original = {name: w.detach().clone() for name, w in network.named_parameters()}
    noise = {
        name: torch.randn(w.shape, generator=generator).to(ctx.device)
        for name, w in original.items()
    }

    @torch.no_grad()
    def add_noise(alpha: float) -> None:
        for name, weight in network.named_parameters():
            noise_std = alpha**0.5 * (information[name] + FISHER_FLOOR).pow(-0.25)
            noise_std = noise_std.clamp(max=params.largest * original[name].abs().median().item())
            weight.copy_(original[name] + noise[name] * noise_std)

    if params.alpha is not None:
        add_noise(params.alpha)
    else:
        judged = retain.pick(list(range(min(MAX_JUDGED, len(retain.labels)))))
        lowest = _measure_accuracy(network, judged, ctx) - MAX_COST
        strongest = ALPHAS[0]
        for alpha in ALPHAS:
            add_noise(alpha)
            if _measure_accuracy(network, judged, ctx) < lowest:
                break
            strongest = alpha
            if rule.measure_loss(network) >= rule.goal:
                break
        add_noise(strongest)
    require_finite(network, "fisher: after the noise", "lower alpha or largest")
    return network


def _measure_accuracy(network: nn.Module, samples: Samples, ctx: Context) -> float:
    logits = compute_logits(network, samples.images, ctx.device)
    return (logits.argmax(1) == samples.labels).float().mean().item()


def compute_fisher_information(
    network: nn.Module, samples: Samples, ctx: Context
) -> dict[str, Tensor]:
    """Diagonal of the Fisher information, by weight: mean over the samples of E_y (d log p(y) / d
    weight)^2.

    y is drawn from the network's own distribution, not the label: a network that has memorised the
    labels has no gradient there. Samples one at a time, all classes of one in one backward pass.
    """
    weights = dict(network.named_parameters())
    information = {name: torch.zeros_like(w) for name, w in weights.items()}
    n = len(samples.labels)
    for i in range(n):
        log_probabilities = log_softmax(network(samples.images[i : i + 1].to(ctx.device)), dim=1)[0]
        if not torch.isfinite(log_probabilities).all():
            raise JobFailed("invalid", f"fisher: the network's output at step {i} is not finite")
        class_weights = log_probabilities.detach().exp().sqrt().diag()
        for class_chunk in class_weights.split(CLASS_CHUNK):
            gradients = torch.autograd.grad(
                log_probabilities,
                list(weights.values()),
                class_chunk,
                retain_graph=True,
                is_grads_batched=True,
            )
            for name, gradient in zip(weights, gradients, strict=True):
                information[name] += gradient.square().sum(0) / n
        ctx.report_progress(i + 1, n)
    return information
