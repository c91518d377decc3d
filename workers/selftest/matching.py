"""The search's gradient is that of its objective, checked by finite differences in float64."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from shared.ml.attacks.api import IMPLEMENTATIONS, Arithmetic, total_variation
from shared.ml.context import make_generator
from shared.ml.networks import build_network
from workers.selftest._case import Case
from workers.selftest._world import CLASSES, SIDE, draw_samples, make_architecture

TRIALS, K, TV, STEP = 3, 2, 0.1, 1e-7


def _measure_slope_error(arithmetic: Arithmetic) -> float:
    """Largest relative error of the slope that the gradient predicts along a random change of the
    images."""
    source, implementation = make_generator(0, "matching"), IMPLEMENTATIONS[arithmetic]
    network = build_network(
        make_architecture("convnet", width=2), make_generator(0, "weights")
    ).double()
    # sets BatchNorm's statistics, otherwise 0 and 1
    network.train()(draw_samples("pretraining", 16).images.double())
    network.eval()
    weights = {name: w.detach() for name, w in network.named_parameters()}
    direction = {
        n: torch.randn(TRIALS, *w.shape, generator=source, dtype=torch.float64)
        for n, w in weights.items()
    }
    norm = torch.cat([g.flatten(1) for g in direction.values()], 1).norm(dim=1)
    direction = {name: g / norm.view(-1, *[1] * (g.dim() - 1)) for name, g in direction.items()}
    images, change = (
        torch.rand(TRIALS, K, 1, SIDE, SIDE, generator=source, dtype=torch.float64) - shift
        for shift in (0, 0.5)
    )
    labels = torch.randint(0, CLASSES, (TRIALS, K), generator=source)
    gradient, _ = implementation.build_matcher(network, weights)(images, labels, direction, TV)

    def objective(images: Tensor) -> Tensor:
        prior = torch.stack([total_variation(image) for image in images])
        distance: Tensor = (
            implementation.compute_matching_loss(network, weights, images, labels, direction)
            + TV * prior
        )
        return distance

    slope = (objective(images + STEP * change) - objective(images - STEP * change)) / (2 * STEP)
    predicted = (gradient * change).flatten(1).sum(1)
    error: Tensor = ((predicted - slope).abs() / slope.abs()).max()
    return error.item()


CASES = tuple(
    Case(
        f"slope_{arithmetic}",
        f"the search's gradient ({arithmetic} arithmetic) is the slope of its objective",
        partial(_measure_slope_error, arithmetic),
        low=None,
        high=1e-5,
        unit="relative",
    )
    for arithmetic in sorted(IMPLEMENTATIONS)
)
