"""The preset `paper` gives the result of the official loop, written out here: autograd twice,
torch's AdamW."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from shared.ml import attacks
from shared.ml.attacks.api import estimate_gradient
from shared.ml.context import LocalContext, make_generator
from workers.selftest._case import Case
from workers.selftest._world import draw_samples, make_architecture, observe, pretrain

DELETIONS, STARTS, STEPS = 2, 2, 30
HALVED = tuple(int(STEPS / part) for part in (2.667, 1.6, 1.142))


def _measure_difference() -> float:
    """The largest difference of any pixel between the product's search and the loop below."""
    architecture, plugin = (
        make_architecture("mlp", hidden=16),
        attacks.registry.get("feature_recovery"),
    )
    view = observe(
        architecture,
        pretrain(architecture),
        draw_samples("training set", 16),
        "gradient_ascent",
        DELETIONS,
    )
    params = plugin.params.model_validate(
        {"preset": "paper", "iterations": STEPS, "restarts": STARTS}
    )
    images = plugin.target(view, params, LocalContext()).images
    network, direction = view.original.load_network(), estimate_gradient(view, "pair").direction
    largest = 0.0
    for d in range(DELETIONS):
        target, label = (
            [g[d] for g in direction.values()],
            draw_samples("training set", 16).labels[d : d + 1],
        )
        tried = []
        for r in range(STARTS):
            start = torch.randn(
                1, *architecture.input_shape, generator=make_generator(0, f"start {d} {r}")
            )
            tried.append(_search(network, target, label, start))
        _, image = min(tried, key=lambda one: one[0])
        largest = max(largest, (image - images[d]).abs().max().item())
    return largest


def _search(
    network: nn.Module, target: list[Tensor], label: Tensor, start: Tensor
) -> tuple[float, Tensor]:
    """The final distance of one start's gradient to the target, and its image."""
    image, lr = start.requires_grad_(), 0.04
    optimiser = torch.optim.AdamW([image], lr=lr, weight_decay=0.01)
    for step in range(STEPS):
        with torch.no_grad():
            image.clamp_(0, 1)
        lr /= 2 if step in HALVED else 1
        optimiser.param_groups[0]["lr"] = lr
        down = (image[..., 1:, :] - image[..., :-1, :]).abs().mean()
        across = (image[..., 1:] - image[..., :-1]).abs().mean()
        objective = _compute_distance(network, target, label, image) + 1e-2 * (down + across)
        image.grad = torch.autograd.grad(objective, image)[0].sign()
        optimiser.step()
    return _compute_distance(network, target, label, image).item(), image.detach()


def _compute_distance(
    network: nn.Module, target: list[Tensor], label: Tensor, image: Tensor
) -> Tensor:
    gradients = torch.autograd.grad(
        cross_entropy(network(image), label), list(network.parameters()), create_graph=True
    )
    dot = torch.stack([(g * a).sum() for g, a in zip(gradients, target, strict=True)]).sum()
    lengths = [
        torch.stack([t.square().sum() for t in ts]).sum().sqrt() for ts in (gradients, target)
    ]
    return 1 - dot / (lengths[0] * lengths[1])


CASES = (
    Case(
        "paper_loop",
        f"after {STEPS} steps, the preset paper gives the same pixels as the official loop",
        _measure_difference,
        low=None,
        high=1e-6,
        unit="of a pixel",
    ),
)
