"""Gradient matching as in the paper: one trial after another, the objective differentiated by
autograd.

Shared passes (`_matching`) give the same numbers up to rounding and are up to three times faster.
But steps by the sign of the gradient amplify rounding: only this gives the pixels of the official
loop.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shared.ml.attacks._embedding import EmbeddingTarget
from shared.ml.attacks._layers import Tensors
from shared.ml.attacks._matching import Matcher, total_variation
from shared.ml.attacks._shared_subspace import SharedSubspace
from shared.ml.loss import compute_loss
from shared.ml.second_derivatives import (
    copy_with_weights,
    differentiable_attention,
    set_smoothing,
)


def build_matcher(network: nn.Module, weights: Tensors, chunk_size: int | None = None) -> Matcher:  # noqa: ARG001 - signature of the batched one
    """As `_matching.build_matcher`, for directions of any norm."""
    network_copy = copy_with_weights(network, weights).requires_grad_(True)

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
        set_smoothing(network_copy, smoothing)
        results: list[tuple[Tensor, ...]] = []
        for trial, image in enumerate(images):
            x = image.detach().clone().requires_grad_()
            variables, classes = [x], labels[trial]
            if labels.is_floating_point():
                logits = classes.detach().clone().requires_grad_()
                variables, classes = [x, logits], logits.softmax(1)
            distance = _compute_distance(
                network_copy, x, classes, direction, trial, coordinate_weights, subspace, graph=True
            )
            objective = distance + tv * total_variation(x)
            if embedding is not None:
                objective = objective + _compute_penalty(
                    network_copy, x, embedding.select(slice(trial, trial + 1))
                )
            gradient, *label_gradient = torch.autograd.grad(objective, variables)
            results.append((gradient, distance.detach(), *label_gradient))
        return tuple(torch.stack(alike) for alike in zip(*results, strict=True))

    return match


def compute_matching_loss(
    network: nn.Module,
    weights: Tensors,
    images: Tensor,
    labels: Tensor,
    direction: Tensors,
    chunk_size: int | None = None,  # noqa: ARG001 - signature of the batched one
    coordinate_weights: Tensors | None = None,
    subspace: SharedSubspace | None = None,
) -> Tensor:
    """1 - cos of each trial, [L] in [0, 2], as `_matching.compute_matching_loss`."""
    network_copy = copy_with_weights(network, weights).requires_grad_(True)
    if labels.is_floating_point():
        labels = labels.softmax(2)
    return torch.stack([
        _compute_distance(
            network_copy, image.detach(), labels[trial], direction, trial, coordinate_weights,
            subspace, graph=False,
        )
        for trial, image in enumerate(images)
    ])  # fmt: skip


def compute_gradients(
    network: nn.Module, weights: Tensors, images: Tensor, labels: Tensor
) -> Tensors:
    """Per trial the gradient of its mean loss in every weight, {name: [L, *shape]}, of images
    [L, k, C, H, W] and labels [L, k]."""
    network_copy = copy_with_weights(network, weights).requires_grad_(True)
    names, parameters = zip(*network_copy.named_parameters(), strict=True)
    gradients = [
        torch.autograd.grad(
            compute_loss(network_copy(x), classes), parameters, materialize_grads=True
        )
        for x, classes in zip(images, labels, strict=True)
    ]
    return {
        name: torch.stack(alike)
        for name, alike in zip(names, zip(*gradients, strict=True), strict=True)
    }


@differentiable_attention()
def _compute_penalty(network: nn.Module, x: Tensor, embedding: EmbeddingTarget) -> Tensor:
    """The trial's distance to the embedding, in a pass of its own."""
    inputs: list[Tensor] = []
    layer = network.get_submodule(embedding.name.rpartition(".")[0])
    handle = layer.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    network(x)
    handle.remove()
    return embedding.compute_penalty(inputs[-1])


@differentiable_attention()
def _compute_distance(
    network: nn.Module,
    x: Tensor,
    labels: Tensor,
    direction: Tensors,
    trial: int,
    coordinate_weights: Tensors | None,
    subspace: SharedSubspace | None,
    graph: bool,
) -> Tensor:
    """1 - cos of the loss's gradient at images x [k, C, H, W] and the trial's direction, over all
    weights jointly."""
    names, parameters = zip(*network.named_parameters(), strict=True)
    gradients = torch.autograd.grad(  # of a weight that has no part in the output: 0
        compute_loss(network(x), labels), parameters, create_graph=graph, materialize_grads=True
    )
    dot, norm, direction_norm = x.new_zeros(()), x.new_zeros(()), x.new_zeros(())
    if coordinate_weights is not None:
        gradients = tuple(
            g * coordinate_weights[name][trial] for name, g in zip(names, gradients, strict=True)
        )
    if subspace is not None:
        projected = subspace.select(slice(trial, trial + 1)).project_out(
            {n: g.unsqueeze(0) for n, g in zip(names, gradients, strict=True)}
        )
        gradients = tuple(g.squeeze(0) for g in projected.values())
    for name, g in zip(names, gradients, strict=True):
        dot = dot + (g * direction[name][trial]).sum()
        norm = norm + g.square().sum()
        direction_norm = direction_norm + direction[name][trial].square().sum()
    # a saturated network has no gradient: then the cosine is 0 and so is its derivative, not 0 / 0
    return 1 - dot / (norm.clamp_min(torch.finfo(x.dtype).tiny).sqrt() * direction_norm.sqrt())
