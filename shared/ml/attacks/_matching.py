"""Gradient matching: how well an image explains a weight change, and how to change the image.

Source: Geiping et al. 2020, arXiv 2003.14053 (cosine, total variation).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap
from torch.nn.functional import cross_entropy

Tensors = dict[str, Tensor]
# (images [L, k, C, H, W], labels [L, k], direction {name: [L, *shape]}, tv weight) -> (gradient, loss [L])
Matcher = Callable[[Tensor, Tensor, Tensors, float], tuple[Tensor, Tensor]]


def total_variation(images: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels, down plus across. [..., H, W] -> scalar."""
    down = (images[..., 1:, :] - images[..., :-1, :]).abs().mean()
    across = (images[..., :, 1:] - images[..., :, :-1]).abs().mean()
    return down + across


def dot(a: Tensors, b: Tensors) -> Tensor:
    """Inner product over all tensors jointly."""
    return torch.stack([(a[name] * b[name]).sum() for name in a]).sum()


def loss_of(network: nn.Module) -> Callable[[Tensors, Tensor, Tensor], Tensor]:
    """Mean cross entropy of a batch, as a function of (weights, images [k, C, H, W], labels [k])."""

    def loss(weights: Tensors, images: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(functional_call(network, weights, (images,)), labels)

    return loss


def matcher(network: nn.Module, weights: Tensors, chunk: int | None = None) -> Matcher:
    """The objective 1 - cos(gradient of the loss at `weights`, direction) + a * TV, over L lanes at once.

    A lane is one restart of one deletion. Directions must have norm 1. `chunk` lanes are worked on at a
    time (None: all), which bounds memory. The gradient in the images is composed of two cheap parts rather
    than taken through the gradient: with v the cosine's derivative in the gradient g, held constant,
    d cos / d x = d/dx <g(x), v>, and <g(x), v> is the loss's derivative along v (one forward-mode pass).

    Returns:
        a function that gives d objective / d images, like the images, and 1 - cos, [L] in [0, 2].
    """
    loss = loss_of(network)

    def one(images: Tensor, labels: Tensor, direction: Tensors, tv: Tensor) -> tuple[Tensor, Tensor]:
        g = grad(loss)(weights, images, labels)
        norm = dot(g, g).sqrt().clamp_min(1e-30)
        cosine = dot(g, direction) / norm
        v = {name: (direction[name] - cosine * g[name] / norm) / norm for name in g}

        def along(x: Tensor) -> Tensor:
            return jvp(lambda w: loss(w, x, labels), (weights,), (v,))[1]

        return tv * grad(total_variation)(images) - grad(along)(images), 1 - cosine

    lanes = vmap(one, in_dims=(0, 0, 0, None), chunk_size=chunk)

    def match(images: Tensor, labels: Tensor, direction: Tensors, tv: float) -> tuple[Tensor, Tensor]:
        gradient, mismatch = lanes(images, labels, direction, torch.tensor(tv, device=images.device))
        return gradient.detach(), mismatch.detach()

    return match


def mismatch(
    network: nn.Module, weights: Tensors, images: Tensor, labels: Tensor, direction: Tensors, chunk: int | None = None
) -> Tensor:
    """1 - cos of each lane, [L] in [0, 2]: the objective without its prior, cheaper than `matcher`."""
    loss = loss_of(network)

    def one(images: Tensor, labels: Tensor, direction: Tensors) -> Tensor:
        g = grad(loss)(weights, images, labels)
        return 1 - dot(g, direction) / (dot(g, g) * dot(direction, direction)).sqrt().clamp_min(1e-30)

    return vmap(one, chunk_size=chunk)(images, labels, direction).detach()
