"""Gradient matching: how well an image explains a weight change, and how to change the image.

Source: Geiping et al. 2020, arXiv 2003.14053 (cosine, total variation).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from shared.ml.attacks._common import Common
from shared.ml.attacks._lanes import Lanes
from shared.ml.attacks._layers import Tensors

# (images [L, k, C, H, W], labels [L, k], direction {name: [L, *shape]}, tv weight,
# trust like the direction or None, what is left out of gradients or None) -> (gradient, loss [L]).
# Labels may be logits [L, k, K] instead, of classes that are sought with the images: then (gradient, loss, theirs).
Matcher = Callable[[Tensor, Tensor, Tensors, float, Tensors | None, Common | None], tuple[Tensor, ...]]


def total_variation(images: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels, down plus across. [..., H, W] -> scalar.

    Where none has a neighbour, as in a row of a table, there is no variation.
    """
    down = (images[..., 1:, :] - images[..., :-1, :]).abs()
    across = (images[..., :, 1:] - images[..., :, :-1]).abs()
    parts = [part.mean() if part.numel() else part.sum() for part in (down, across)]  # a sum of nothing is 0
    return parts[0] + parts[1]


def matcher(network: nn.Module, weights: Tensors, chunk: int | None = None) -> Matcher:
    """The objective 1 - cos(gradient of the loss at `weights`, direction) + a * TV, over L lanes at once.

    A lane is one restart of one deletion. Directions must have norm 1. `chunk` lanes are worked on at a
    time (None: all), which bounds memory. Where a trust is given, g is the gradient times it, coordinate by
    coordinate, then without what is common; the direction must have been made so already.

    With v the objective's derivative in the gradient g, held constant, its derivative in the images x is
    d/dx <g(x), v>. The gradient in a layer's weights pairs the layer's input with delta, the loss's gradient
    in the layer's output, so <g, v> = sum over layers of <delta, a>, where a is how the output moves as the
    layer's weights move along v. Both delta and a are plain functions of x, and the passes that gave g are
    shared. A step costs about 7 forward passes' worth of convolutions, which is what bounds its speed.

    Returns:
        a function that gives d objective / d images, like the images, and 1 - cos, [L] in [0, 2]; of logits their
        derivative too: delta depends on them, the moves do not.
    """
    lanes = Lanes(network, weights)

    def some(
        images: Tensor, labels: Tensor, direction: Tensors, trust: Tensors | None, common: Common | None, tv: float
    ) -> tuple[Tensor, ...]:
        x = images.detach().flatten(0, 1).requires_grad_()
        sought = [x]
        if labels.is_floating_point():
            logits = labels.detach().requires_grad_()
            sought, labels = [x, logits], logits.softmax(2)
        done = lanes.run(x, labels)
        g = _without(_weighed(done.gradients(), trust), common)
        norm = _norm(g).clamp_min(1e-30)
        cosine = _dot(g, direction) / norm
        v = {  # d (1 - cos) / d g = (cos g / |g| - direction) / |g|, in the place of g
            name: t.mul_(_wide(cosine / norm**2, t)).addcmul_(direction[name], _wide(1 / norm, t), value=-1)
            for name, t in g.items()
        }
        moves = done.along(_weighed(_without(v, common), trust))
        prior = total_variation(x) * (tv * len(images))  # the mean over lanes -> their sum
        seeds = [*(move.detach() for move in moves), *(delta.detach() for delta in done.deltas), None]
        gradient, *theirs = torch.autograd.grad([*done.deltas, *moves, prior], sought, seeds)
        return gradient.view_as(images), 1 - cosine, *theirs

    def match(
        images: Tensor,
        labels: Tensor,
        direction: Tensors,
        tv: float,
        trust: Tensors | None = None,
        common: Common | None = None,
    ) -> tuple[Tensor, ...]:
        parts = [some(*part, tv) for part in _chunks(images, labels, direction, trust, common, chunk)]
        return tuple(torch.cat(alike) for alike in zip(*parts, strict=True))

    return match


def mismatch(
    network: nn.Module,
    weights: Tensors,
    images: Tensor,
    labels: Tensor,
    direction: Tensors,
    chunk: int | None = None,
    trust: Tensors | None = None,
    common: Common | None = None,
) -> Tensor:
    """1 - cos of each lane, [L] in [0, 2]: the objective without its prior, cheaper than `matcher`.

    Labels as there: classes [L, k], or logits [L, k, K].
    """
    if labels.is_floating_point():
        labels = labels.softmax(2)
    lanes, found = Lanes(network, weights), []
    for some, theirs, aim, worth, shared in _chunks(images, labels, direction, trust, common, chunk):
        done = lanes.run(some.detach().flatten(0, 1).requires_grad_(), theirs, twice=False)
        g = _without(_weighed(done.gradients(), worth), shared)
        found.append(1 - _dot(g, aim) / (_norm(g) * _norm(aim)).clamp_min(1e-30))
    return torch.cat(found)


def _chunks(
    images: Tensor,
    labels: Tensor,
    direction: Tensors,
    trust: Tensors | None,
    common: Common | None,
    chunk: int | None,
) -> Iterator[tuple[Tensor, Tensor, Tensors, Tensors | None, Common | None]]:
    for start in range(0, len(images), chunk or len(images)):
        part = slice(start, start + (chunk or len(images)))
        worth = None if trust is None else {name: t[part] for name, t in trust.items()}
        left = None if common is None else common.rows(part)
        yield images[part], labels[part], {name: t[part] for name, t in direction.items()}, worth, left


def _weighed(a: Tensors, trust: Tensors | None) -> Tensors:
    """`a` times the trust, in its place."""
    return a if trust is None else {name: t.mul_(trust[name]) for name, t in a.items()}


def _without(a: Tensors, common: Common | None) -> Tensors:
    """`a` without what is common."""
    return a if common is None else common.off(a)


def _dot(a: Tensors, b: Tensors) -> Tensor:
    """Per lane the inner product over all tensors of `a` jointly, [L]."""
    return torch.stack([torch.linalg.vecdot(t.flatten(1), b[name].flatten(1)) for name, t in a.items()]).sum(0)


def _norm(a: Tensors) -> Tensor:
    """Per lane the norm over all tensors jointly, [L]."""
    return torch.linalg.vector_norm(torch.stack([t.flatten(1).norm(dim=1) for t in a.values()]), dim=0)


def _wide(scalars: Tensor, like: Tensor) -> Tensor:
    """[L] -> [L, 1, ...], to go with [L, *shape]."""
    return scalars.view(-1, *[1] * (like.dim() - 1))
