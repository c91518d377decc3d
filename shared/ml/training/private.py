"""DP-SGD: what no sample can change by much, and noise that hides the rest.

Source: Abadi et al. 2016, arXiv 1607.00133, algorithm 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from shared.ml.context import Context
from shared.ml.loss import compute_loss
from shared.ml.samples import Samples
from shared.ml.training.recipe import Recipe

AT_ONCE = 16  # samples whose own gradients are held at a time


def poisson(n: int, recipe: Recipe, ctx: Context, step: int) -> Tensor:
    """Positions of the samples of a step: each is in with probability batch_size / n, which accounting assumes."""
    share = min(1.0, recipe.batch_size / n)
    return (torch.rand(n, generator=ctx.generator(f"poisson {step}")) < share).nonzero().flatten()


def private_gradients(
    network: nn.Module, samples: Samples, expected: float, recipe: Recipe, ctx: Context, step: int
) -> tuple[float, dict[str, Tensor]]:
    """The mean loss of a step's samples (0 without any), and their noisy mean gradient by weight.

    Each sample's gradient is shortened to max_grad_norm at most; their sum, with noise of standard deviation
    noise_multiplier * max_grad_norm, is divided by `expected`, the number of samples that a step has on average.
    """
    weights = {name: w.detach() for name, w in network.named_parameters()}

    def loss(w: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        return compute_loss(functional_call(network, w, (image.unsqueeze(0),)), label.unsqueeze(0))

    total, losses = {name: torch.zeros_like(w) for name, w in weights.items()}, 0.0
    for start in range(0, len(samples.labels), AT_ONCE):
        images, labels = (t[start : start + AT_ONCE].to(ctx.device) for t in samples)
        each, lost = vmap(grad_and_value(loss), (None, 0, 0))(weights, images, labels)
        losses += lost.sum().item()
        norm = torch.stack([g.flatten(1).square().sum(1) for g in each.values()]).sum(0).sqrt()
        factor = (recipe.max_grad_norm / norm.clamp_min(1e-30)).clamp_max(1)
        for name, g in each.items():
            total[name] += torch.einsum("n,n...->...", factor, g)
    spread = recipe.noise_multiplier * recipe.max_grad_norm
    source = ctx.generator(f"dp noise {step}")
    noisy = {
        name: (t + spread * torch.randn(t.shape, generator=source).to(t.device)) / expected for name, t in total.items()
    }
    return losses / max(1, len(samples.labels)), noisy
