"""Gradient matching as the paper's equation reads: one lane after another, the objective derived by autograd.

The passes that lanes share (`_matching`) give the same numbers up to rounding and are up to three times quicker. A
search that steps by the sign of the gradient enlarges rounding: whoever wants the official loop's pixels wants this.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from shared.ml.attacks._common import Common
from shared.ml.attacks._layers import Tensors
from shared.ml.attacks._matching import Matcher, total_variation
from shared.ml.loss import compute_loss


def matcher(network: nn.Module, weights: Tensors, chunk: int | None = None) -> Matcher:  # noqa: ARG001 - signature of the batched one
    """As `_matching.matcher`, for directions of any norm."""
    own = _with(network, weights)

    def match(
        images: Tensor,
        labels: Tensor,
        direction: Tensors,
        tv: float,
        trust: Tensors | None = None,
        common: Common | None = None,
    ) -> tuple[Tensor, ...]:
        found: list[tuple[Tensor, ...]] = []
        for lane, image in enumerate(images):
            x = image.detach().clone().requires_grad_()
            sought, classes = [x], labels[lane]
            if labels.is_floating_point():
                logits = classes.detach().clone().requires_grad_()
                sought, classes = [x, logits], logits.softmax(1)
            distance = _distance(own, x, classes, direction, lane, trust, common, graph=True)
            gradient, *theirs = torch.autograd.grad(distance + tv * total_variation(x), sought)
            found.append((gradient, distance.detach(), *theirs))
        return tuple(torch.stack(alike) for alike in zip(*found, strict=True))

    return match


def mismatch(
    network: nn.Module,
    weights: Tensors,
    images: Tensor,
    labels: Tensor,
    direction: Tensors,
    chunk: int | None = None,  # noqa: ARG001 - signature of the batched one
    trust: Tensors | None = None,
    common: Common | None = None,
) -> Tensor:
    """1 - cos of each lane, [L] in [0, 2], as `_matching.mismatch`."""
    own = _with(network, weights)
    if labels.is_floating_point():
        labels = labels.softmax(2)
    return torch.stack([
        _distance(own, image.detach(), labels[lane], direction, lane, trust, common, graph=False)
        for lane, image in enumerate(images)
    ])  # fmt: skip


def _with(network: nn.Module, weights: Tensors) -> nn.Module:
    """A copy in eval mode with these weights."""
    own = copy.deepcopy(network).eval().requires_grad_(True)
    for name, weight in own.named_parameters():
        weight.data = weights[name]
    return own


def _distance(
    network: nn.Module,
    x: Tensor,
    labels: Tensor,
    direction: Tensors,
    lane: int,
    trust: Tensors | None,
    common: Common | None,
    graph: bool,
) -> Tensor:
    """1 - cos of the loss's gradient at images x [k, C, H, W] and the lane's direction, over all weights jointly."""
    names, parameters = zip(*network.named_parameters(), strict=True)
    found = torch.autograd.grad(compute_loss(network(x), labels), parameters, create_graph=graph)
    dot, norm, aim = x.new_zeros(()), x.new_zeros(()), x.new_zeros(())
    if trust is not None:
        found = tuple(g * trust[name][lane] for name, g in zip(names, found, strict=True))
    if common is not None:
        left = common.rows(slice(lane, lane + 1)).off({n: g.unsqueeze(0) for n, g in zip(names, found, strict=True)})
        found = tuple(g.squeeze(0) for g in left.values())
    for name, g in zip(names, found, strict=True):
        dot = dot + (g * direction[name][lane]).sum()
        norm = norm + g.square().sum()
        aim = aim + direction[name][lane].square().sum()
    # a saturated network has no gradient: then the cosine is 0 and so is its derivative, not 0 / 0
    return 1 - dot / (norm.clamp_min(torch.finfo(x.dtype).tiny).sqrt() * aim.sqrt())
