"""Whether the trials of a network can share passes, found by trying."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from shared.ml.attacks import _matching, _plain
from shared.ml.attacks._batched_gradients import has_only_known_layers
from shared.ml.attacks._layers import Tensors
from shared.ml.attacks._shared_subspace import SharedSubspace
from shared.ml.context import make_generator

MAX_ERROR = 0.02  # relative; rounding in float32 makes less in deep networks


def find_fallback_reason(network: nn.Module, input_shape: Sequence[int]) -> str | None:
    """Why gradients of this network have to be computed image by image, in words; None if trials
    can share passes.

    One step of the search on two random images tells. Where layers are of other kinds than those
    that have a class in this folder, it is compared with plain autograd: they could mix images.
    """
    generator = make_generator(0, "shared passes")
    weights = {name: w.detach() for name, w in network.named_parameters()}
    images = torch.rand(2, 1, *input_shape, generator=generator)
    images = images.to(next(iter(weights.values())))
    images[1] /= 2
    labels = _find_unlikely_classes(network, images)
    direction = _draw_direction(weights, generator)
    try:
        shared_step = _matching.build_matcher(network, weights)(
            images, labels, direction, 0.0, None, None, None, 0.0
        )
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # torch raises whatever it cannot do with a layer
        return f"its layers cannot share passes ({type(error).__name__})"
    if has_only_known_layers(network):
        return None
    single_step = _plain.build_matcher(network, weights)(
        images, labels, direction, 0.0, None, None, None, 0.0
    )
    if _is_alike(shared_step[0], single_step[0]):
        return None
    return "its layers mix images that share a pass"


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
    """As `_matching.compute_matching_loss`, but image by image where the network's layers do not let
    images share passes."""
    reason = find_fallback_reason(network, images.shape[2:])
    implementation = _matching if reason is None else _plain
    return implementation.compute_matching_loss(
        network, weights, images, labels, direction, chunk_size, coordinate_weights, subspace
    )


@torch.no_grad()
def _find_unlikely_classes(network: nn.Module, images: Tensor) -> Tensor:
    """The unlikeliest class of the first image and the second unlikeliest of the second, [L, 1]:
    their gradients do not vanish."""
    logits: Tensor = network(images.flatten(0, 1))
    return logits.argsort(1).diagonal().unsqueeze(1)


def _draw_direction(weights: Tensors, generator: torch.Generator) -> Tensors:
    """A random direction of norm 1 and its opposite: a trial that takes part in the other's
    gradient shows."""
    drawn = {n: torch.randn(w.shape, generator=generator).to(w) for n, w in weights.items()}
    norm = torch.stack([d.norm() for d in drawn.values()]).norm()
    return {n: torch.stack([d / norm, -d / norm]) for n, d in drawn.items()}


def _is_alike(shared: Tensor, single: Tensor) -> bool:
    """Whether two gradients agree up to rounding. Of what is not finite nobody can tell."""
    norm = single.norm()
    if not bool(norm.isfinite()) or float(norm) < torch.finfo(single.dtype).tiny:
        return True
    return bool((shared - single).norm() <= MAX_ERROR * norm)
