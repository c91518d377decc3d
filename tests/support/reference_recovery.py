"""A slow reference of the paper's feature recovery, written from its description and not from our
code.

One image after another, one start after another, one step after another; derivatives of derivatives
by autograd, steps by torch's own AdamW. Source: Hu et al. 2024, arXiv 2404.03233, the settings of
its official code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

State = Mapping[str, Tensor]
LR, WEIGHT_DECAY, PRIOR = 0.04, 0.01, 1e-2


class RecoveredImage(NamedTuple):
    """Pixels [k, C, H, W] as the last step left them, and the matching loss of the start that they
    come from."""

    image: Tensor
    matching_loss: float


def approximate_target(before: State, after: State, weights: list[str]) -> list[Tensor]:
    """g* of one ascent step: after minus before, of norm 1."""
    return _normalize([after[name].double() - before[name].double() for name in weights])


def exact_target(
    base: State, before: State, after: State, n: int, k: int, weights: list[str]
) -> list[Tensor]:
    """g* of retraining from the base model on n - k of n samples, of norm 1."""
    moved = []
    for name in weights:
        start = base[name].double()
        moved.append((n - k) * (after[name].double() - start) - n * (before[name].double() - start))
    return _normalize(moved)


def _normalize(tensors: list[Tensor]) -> list[Tensor]:
    square = 0.0
    for tensor in tensors:
        square += float((tensor * tensor).sum())
    return [tensor / square**0.5 for tensor in tensors]


def recover(
    network: nn.Module, target: list[Tensor], label: Tensor, starts: list[Tensor], iterations: int
) -> RecoveredImage:  # fmt: skip
    """Search from each start; the one whose gradient ends nearest to `aim` is the answer.

    Args:
        network: at the weights where `aim` is a gradient.
        aim: one tensor a weight, in the network's order.
        label: the classes [k], which the attacker is given.
        starts: drawn from N(0, 1), each [k, C, H, W]; images of their type come out.
    """
    network.eval()
    weights = list(network.parameters())
    target = [tensor.to(starts[0].dtype) for tensor in target]
    best: RecoveredImage | None = None
    for start in starts:
        image = _search(network, weights, target, label, start, iterations)
        loss = float(_distance(network, weights, target, label, image.requires_grad_()).detach())
        if best is None or loss < best.matching_loss:
            best = RecoveredImage(image.detach(), loss)
    assert best is not None
    return best


def _search(
    network: nn.Module,
    weights: list[nn.Parameter],
    target: list[Tensor],
    label: Tensor,
    start: Tensor,
    iterations: int,
) -> Tensor:
    image = start.clone().requires_grad_()
    optimiser = torch.optim.AdamW([image], lr=LR, weight_decay=WEIGHT_DECAY)
    halvings = [int(iterations / 2.667), int(iterations / 1.6), int(iterations / 1.142)]
    for step in range(iterations):
        with torch.no_grad():
            image.clamp_(0, 1)
        lr = LR
        for mark in halvings:
            if step >= mark:
                lr = lr / 2
        optimiser.param_groups[0]["lr"] = lr
        total = _distance(network, weights, target, label, image) + PRIOR * _total_variation(image)
        (slope,) = torch.autograd.grad(total, image)
        image.grad = torch.sign(slope)
        optimiser.step()
    return image.detach()


def _distance(
    network: nn.Module,
    weights: list[nn.Parameter],
    targets: list[Tensor],
    label: Tensor,
    image: Tensor,
) -> Tensor:
    """1 - cosine of the two over all weights jointly."""
    loss = nn.functional.cross_entropy(network(image), label)
    gradients = torch.autograd.grad(loss, weights, create_graph=True)
    product = torch.zeros((), dtype=image.dtype)
    square = torch.zeros((), dtype=image.dtype)
    square_of_aim = torch.zeros((), dtype=image.dtype)
    for gradient, target in zip(gradients, targets, strict=True):
        product = product + (gradient * target).sum()
        square = square + (gradient**2).sum()
        square_of_aim = square_of_aim + (target**2).sum()
    return 1 - product / (square.sqrt() * square_of_aim.sqrt())


def _total_variation(image: Tensor) -> Tensor:
    """Mean difference of pixels to the one below plus mean difference to the one on the right."""
    below = (image[:, :, 1:, :] - image[:, :, :-1, :]).abs().mean()
    right = (image[:, :, :, 1:] - image[:, :, :, :-1]).abs().mean()
    return below + right
