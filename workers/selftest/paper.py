"""The preset `paper` ends where the official loop does, written out here: autograd twice, torch's
own AdamW."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from shared.ml import attacks
from shared.ml.attacks.api import estimate_gradient
from shared.ml.context import LocalContext, make_generator
from workers.selftest._case import Case
from workers.selftest._world import architecture, observe, pretrained, samples

DELETIONS, STARTS, STEPS = 2, 2, 30
HALVED = tuple(int(STEPS / part) for part in (2.667, 1.6, 1.142))


def _difference() -> float:
    """The largest of any pixel, between the product's search and the loop below."""
    made, plugin = architecture("mlp", hidden=16), attacks.registry.get("feature_recovery")
    seen = observe(
        made, pretrained(made), samples("training set", 16), "gradient_ascent", DELETIONS
    )
    params = plugin.params.model_validate(
        {"preset": "paper", "iterations": STEPS, "restarts": STARTS}
    )
    found = plugin.target(seen, params, LocalContext()).images
    network, direction = seen.original.load_network(), estimate_gradient(seen, "pair").direction
    largest = 0.0
    for d in range(DELETIONS):
        aim, label = (
            [g[d] for g in direction.values()],
            samples("training set", 16).labels[d : d + 1],
        )
        tried = []
        for r in range(STARTS):
            start = torch.randn(1, *made.input_shape, generator=make_generator(0, f"start {d} {r}"))
            tried.append(_searched(network, aim, label, start))
        _, image = min(tried, key=lambda one: one[0])
        largest = max(largest, (image - found[d]).abs().max().item())
    return largest


def _searched(
    network: nn.Module, aim: list[Tensor], label: Tensor, start: Tensor
) -> tuple[float, Tensor]:
    """Where one start ends, and how far its gradient is from the aim there."""
    image, lr = start.requires_grad_(), 0.04
    optimiser = torch.optim.AdamW([image], lr=lr, weight_decay=0.01)
    for step in range(STEPS):
        with torch.no_grad():
            image.clamp_(0, 1)
        lr /= 2 if step in HALVED else 1
        optimiser.param_groups[0]["lr"] = lr
        down = (image[..., 1:, :] - image[..., :-1, :]).abs().mean()
        across = (image[..., 1:] - image[..., :-1]).abs().mean()
        objective = _distance(network, aim, label, image) + 1e-2 * (down + across)
        image.grad = torch.autograd.grad(objective, image)[0].sign()
        optimiser.step()
    return _distance(network, aim, label, image).item(), image.detach()


def _distance(network: nn.Module, aim: list[Tensor], label: Tensor, image: Tensor) -> Tensor:
    found = torch.autograd.grad(
        cross_entropy(network(image), label), list(network.parameters()), create_graph=True
    )
    dot = torch.stack([(g * a).sum() for g, a in zip(found, aim, strict=True)]).sum()
    lengths = [torch.stack([t.square().sum() for t in ts]).sum().sqrt() for ts in (found, aim)]
    return 1 - dot / (lengths[0] * lengths[1])


CASES = (
    Case(
        "paper_loop",
        f"the preset paper's pixels after {STEPS} steps are those of the official loop written out",
        _difference,
        low=None,
        high=1e-6,
        unit="of a pixel",
    ),
)
