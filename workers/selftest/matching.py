"""The search goes downhill: its gradient is the slope of its objective, found by finite differences
in float64."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from shared.ml.attacks.api import IMPLEMENTATIONS, Arithmetic, total_variation
from shared.ml.context import make_generator
from shared.ml.networks import build_network
from workers.selftest._case import Case
from workers.selftest._world import CLASSES, SIDE, architecture, samples

LANES, K, TV, STEP = 3, 2, 0.1, 1e-7


def _off(arithmetic: Arithmetic) -> float:
    """How far the slope along a random change of the images is from what the gradient says,
    relative, at most."""
    source, way = make_generator(0, "matching"), IMPLEMENTATIONS[arithmetic]
    network = build_network(architecture("convnet", width=2), make_generator(0, "weights")).double()
    # BatchNorm's statistics, else 0 and 1
    network.train()(samples("pretraining", 16).images.double())
    network.eval()
    weights = {name: w.detach() for name, w in network.named_parameters()}
    aim = {
        n: torch.randn(LANES, *w.shape, generator=source, dtype=torch.float64)
        for n, w in weights.items()
    }
    norm = torch.cat([g.flatten(1) for g in aim.values()], 1).norm(dim=1)
    aim = {name: g / norm.view(-1, *[1] * (g.dim() - 1)) for name, g in aim.items()}
    images, aside = (
        torch.rand(LANES, K, 1, SIDE, SIDE, generator=source, dtype=torch.float64) - shift
        for shift in (0, 0.5)
    )
    labels = torch.randint(0, CLASSES, (LANES, K), generator=source)
    gradient, _ = way.build_matcher(network, weights)(images, labels, aim, TV)

    def objective(images: Tensor) -> Tensor:
        prior = torch.stack([total_variation(image) for image in images])
        distance: Tensor = (
            way.compute_matching_loss(network, weights, images, labels, aim) + TV * prior
        )
        return distance

    slope = (objective(images + STEP * aside) - objective(images - STEP * aside)) / (2 * STEP)
    told = (gradient * aside).flatten(1).sum(1)
    off: Tensor = ((told - slope).abs() / slope.abs()).max()
    return off.item()


CASES = tuple(
    Case(
        f"slope_{arithmetic}",
        f"the search's gradient ({arithmetic} arithmetic) is the slope of its objective",
        partial(_off, arithmetic),
        low=None,
        high=1e-5,
        unit="relative",
    )
    for arithmetic in sorted(IMPLEMENTATIONS)
)
