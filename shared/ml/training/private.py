"""DP-SGD: clipped gradients of single samples, and noise.

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

CHUNK_SIZE = 16  # samples whose own gradients are held at a time


def draw_poisson_batch(n: int, recipe: Recipe, ctx: Context, step: int) -> Tensor:
    """Positions of a step's samples: each is included with probability batch_size / n, as
    accounting assumes."""
    share = min(1.0, recipe.batch_size / n)
    return (
        (torch.rand(n, generator=ctx.make_generator(f"poisson {step}")) < share).nonzero().flatten()
    )


def compute_private_gradients(
    network: nn.Module,
    samples: Samples,
    expected_batch_size: float,
    recipe: Recipe,
    ctx: Context,
    step: int,
) -> tuple[float, dict[str, Tensor]]:
    """The mean loss of a step's samples (0 without any), and their noisy mean gradient by weight.

    Each sample's gradient is clipped to norm max_grad_norm; their sum, with noise of standard
    deviation noise_multiplier * max_grad_norm, is divided by `expected_batch_size`. That depends on
    the number of samples, which the guarantee therefore treats as public: see `dp_sgd`.
    """
    weights = {name: w.detach() for name, w in network.named_parameters()}

    def loss(w: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        return compute_loss(functional_call(network, w, (image.unsqueeze(0),)), label.unsqueeze(0))

    total, loss_sum = {name: torch.zeros_like(w) for name, w in weights.items()}, 0.0
    for start in range(0, len(samples.labels), CHUNK_SIZE):
        images, labels = (t[start : start + CHUNK_SIZE].to(ctx.device) for t in samples)
        per_sample, chunk_losses = vmap(grad_and_value(loss), (None, 0, 0))(weights, images, labels)
        loss_sum += chunk_losses.sum().item()
        norm = (
            torch.stack([g.flatten(1).square().sum(1) for g in per_sample.values()]).sum(0).sqrt()
        )
        factor = (recipe.max_grad_norm / norm.clamp_min(1e-30)).clamp_max(1)
        for name, g in per_sample.items():
            total[name] += torch.einsum("n,n...->...", factor, g)
    noise_std = recipe.noise_multiplier * recipe.max_grad_norm
    generator = ctx.make_generator(f"dp noise {step}")
    noisy = {
        name: (t + noise_std * torch.randn(t.shape, generator=generator).to(t.device))
        / expected_batch_size
        for name, t in total.items()
    }
    return loss_sum / max(1, len(samples.labels)), noisy
