"""Gradient matching: how well an image's gradient matches a weight change, and how to improve the
image.

Source: Geiping et al. 2020, arXiv 2003.14053 (cosine, total variation).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from shared.ml.attacks._batched_gradients import BatchedGradients
from shared.ml.attacks._embedding import EmbeddingTarget
from shared.ml.attacks._layers import Tensors
from shared.ml.attacks._shared_subspace import SharedSubspace

# (images [L, k, C, H, W], labels [L, k], direction {name: [L, *shape]}, tv weight, coordinate
# weights like the direction or None, subspace to project out or None, embeddings to be near to or
# None, smoothing of ReLU layers) -> (gradient, loss [L]).
# Labels may be logits [L, k, K] of classes that are optimised too: then (gradient, loss, logits'
# gradient).
Matcher = Callable[
    [
        Tensor,
        Tensor,
        Tensors,
        float,
        Tensors | None,
        SharedSubspace | None,
        EmbeddingTarget | None,
        float,
    ],
    tuple[Tensor, ...],
]


def total_variation(images: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels, down plus across. [..., H, W] -> scalar.

    0 if no pixel has a neighbour, as in a row of a table.
    """
    down = (images[..., 1:, :] - images[..., :-1, :]).abs()
    across = (images[..., :, 1:] - images[..., :, :-1]).abs()
    # a sum of nothing is 0
    parts = [part.mean() if part.numel() else part.sum() for part in (down, across)]
    return parts[0] + parts[1]


def build_matcher(network: nn.Module, weights: Tensors, chunk_size: int | None = None) -> Matcher:
    """The objective 1 - cos(gradient of the loss at `weights`, direction) + a * TV, over L trials
    at once.

    A trial is one restart of one deletion. Directions must have norm 1. `chunk_size` trials are
    processed at a time (None: all), which bounds memory. g is the gradient, multiplied by the
    coordinate weights and with the shared subspace projected out where these are given; the
    direction must have been treated the same way.

    With v the objective's derivative in the gradient g, held constant, its derivative in the images
    x is d/dx <g(x), v>. The gradient in a layer's weights pairs the layer's input with delta, the
    loss's gradient in the layer's output, so <g, v> = sum over layers of <delta, a>, where a is the
    derivative of the output as the layer's weights move along v. Both delta and a are plain
    functions of x, and the passes that gave g are shared. A step costs about as much as 7 forward
    passes.

    Returns:
        a function that gives d objective / d images, like the images, and 1 - cos, [L] in [0, 2];
            and the derivative in the logits, if labels are logits: delta depends on them, a does
            not.
    """
    batched_gradients = BatchedGradients(network, weights)

    def match_chunk(
        images: Tensor,
        labels: Tensor,
        direction: Tensors,
        coordinate_weights: Tensors | None,
        subspace: SharedSubspace | None,
        embedding: EmbeddingTarget | None,
        tv: float,
        smoothing: float,
    ) -> tuple[Tensor, ...]:
        x = images.detach().flatten(0, 1).requires_grad_()
        variables = [x]
        if labels.is_floating_point():
            logits = labels.detach().requires_grad_()
            variables, labels = [x, logits], logits.softmax(2)
        backward_pass = batched_gradients.forward_backward(x, labels, smoothing=smoothing)
        g = _project_out(
            _apply_weights(backward_pass.compute_gradients(), coordinate_weights), subspace
        )
        # the root, as it is squared: of an image of which the network is sure, g nearly vanishes
        norm = _norm(g).clamp_min(torch.finfo(x.dtype).tiny ** 0.5)
        cosine = _dot(g, direction) / norm
        v = {  # d (1 - cos) / d g = (cos g / |g| - direction) / |g|, in the place of g
            name: t.mul_(_unsqueeze_like(cosine / norm**2, t)).addcmul_(
                direction[name], _unsqueeze_like(1 / norm, t), value=-1
            )
            for name, t in g.items()
        }
        outputs, starts = backward_pass.build_product(
            _apply_weights(_project_out(v, subspace), coordinate_weights)
        )
        prior = total_variation(x) * (tv * len(images))  # the mean over trials -> their sum
        if embedding is not None:
            values = backward_pass.find_input(embedding.name)
            if values is not None:
                prior = prior + embedding.compute_penalty(values)
        gradient, *label_gradient = torch.autograd.grad(
            [*outputs, prior], variables, [*starts, None]
        )
        return gradient.view_as(images), 1 - cosine, *label_gradient

    def match(
        images: Tensor,
        labels: Tensor,
        direction: Tensors,
        tv: float,
        coordinate_weights: Tensors | None = None,
        subspace: SharedSubspace | None = None,
        embedding: EmbeddingTarget | None = None,
        smoothing: float = 0.0,
    ) -> tuple[Tensor, ...]:
        parts = [
            match_chunk(*part, tv, smoothing)
            for part in _iter_chunks(
                images, labels, direction, coordinate_weights, subspace, embedding, chunk_size
            )
        ]
        return tuple(torch.cat(alike) for alike in zip(*parts, strict=True))

    return match


def compute_matching_loss(
    network: nn.Module,
    weights: Tensors,
    images: Tensor,
    labels: Tensor,
    direction: Tensors,
    chunk_size: int | None = None,
    coordinate_weights: Tensors | None = None,
    subspace: SharedSubspace | None = None,
) -> Tensor:
    """1 - cos of each trial, [L] in [0, 2]: the objective without its prior, cheaper than
    `build_matcher`.

    Labels are classes [L, k], or logits [L, k, K].
    """
    if labels.is_floating_point():
        labels = labels.softmax(2)
    batched_gradients, losses = BatchedGradients(network, weights), []
    for chunk_images, chunk_labels, target, chunk_weights, chunk_subspace, _ in _iter_chunks(
        images, labels, direction, coordinate_weights, subspace, None, chunk_size
    ):
        backward_pass = batched_gradients.forward_backward(
            chunk_images.detach().flatten(0, 1).requires_grad_(), chunk_labels, create_graph=False
        )
        g = _project_out(
            _apply_weights(backward_pass.compute_gradients(), chunk_weights), chunk_subspace
        )
        losses.append(1 - _dot(g, target) / (_norm(g) * _norm(target)).clamp_min(1e-30))
    return torch.cat(losses)


def _iter_chunks(
    images: Tensor,
    labels: Tensor,
    direction: Tensors,
    coordinate_weights: Tensors | None,
    subspace: SharedSubspace | None,
    embedding: EmbeddingTarget | None,
    chunk_size: int | None,
) -> Iterator[
    tuple[
        Tensor,
        Tensor,
        Tensors,
        Tensors | None,
        SharedSubspace | None,
        EmbeddingTarget | None,
    ]
]:
    for start in range(0, len(images), chunk_size or len(images)):
        rows = slice(start, start + (chunk_size or len(images)))
        chunk_weights = (
            None
            if coordinate_weights is None
            else {name: t[rows] for name, t in coordinate_weights.items()}
        )
        chunk_subspace = None if subspace is None else subspace.select(rows)
        yield (
            images[rows],
            labels[rows],
            {name: t[rows] for name, t in direction.items()},
            chunk_weights,
            chunk_subspace,
            None if embedding is None else embedding.select(rows),
        )


def _apply_weights(gradients: Tensors, coordinate_weights: Tensors | None) -> Tensors:
    """Gradients times the coordinate weights, in place."""
    return (
        gradients
        if coordinate_weights is None
        else {name: t.mul_(coordinate_weights[name]) for name, t in gradients.items()}
    )


def _project_out(gradients: Tensors, subspace: SharedSubspace | None) -> Tensors:
    """Gradients with the subspace projected out."""
    return gradients if subspace is None else subspace.project_out(gradients)


def _dot(a: Tensors, b: Tensors) -> Tensor:
    """Per trial the inner product over all tensors jointly, [L]."""
    return torch.stack(
        [torch.linalg.vecdot(t.flatten(1), b[name].flatten(1)) for name, t in a.items()]
    ).sum(0)


def _norm(a: Tensors) -> Tensor:
    """Per trial the norm over all tensors jointly, [L]."""
    return torch.linalg.vector_norm(
        torch.stack([t.flatten(1).norm(dim=1) for t in a.values()]), dim=0
    )


def _unsqueeze_like(scalars: Tensor, like: Tensor) -> Tensor:
    """[L] -> [L, 1, ...], to broadcast with [L, *shape]."""
    return scalars.view(-1, *[1] * (like.dim() - 1))
