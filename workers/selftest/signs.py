"""The estimated gradient has the direction of the forgotten samples' gradient, sign included."""

from __future__ import annotations

from functools import partial

import torch
from torch.nn.functional import cross_entropy

from shared.ml.attacks.api import estimate_gradient
from shared.ml.context import make_generator
from shared.ml.networks import build_network
from shared.ml.samples import Samples
from workers.selftest._case import Case
from workers.selftest._world import draw_samples, make_architecture, observe

DELETIONS, K = 3, 2
# all of one class: otherwise their gradients cancel, and an estimate that contains them looks
# correct
KEPT = [8, 12, 16, 20, 24, 28]


def _measure_least_cosine(method: str, gradient_from: str) -> float:
    """The smallest cosine over deletions, in float64 and with a network that has BatchNorm."""
    architecture = make_architecture("convnet", width=2)
    base = build_network(architecture, make_generator(0, "weights")).double()
    images, labels = draw_samples("training set", 32).pick([*range(DELETIONS * K), *KEPT])
    data = Samples(images.double(), labels)
    view = observe(architecture, base, data, method, DELETIONS, K)
    point, direction, *_ = estimate_gradient(view, gradient_from)
    network = point.load_network().double()
    network.load_state_dict({name: stacked[0] for name, stacked in point.state.items()})
    least = 1.0
    for i in range(DELETIONS):
        images, labels = data.pick(list(range(i * K, (i + 1) * K)))
        true = torch.autograd.grad(
            cross_entropy(network(images), labels), list(network.parameters())
        )
        flat = torch.cat([g.flatten() for g in true])
        estimate = torch.cat([g[i].flatten() for g in direction.values()]).double()
        least = min(least, torch.cosine_similarity(flat, estimate, dim=0).item())
    return least


CASES = (
    Case(
        "sign_of_ascent",
        "the weight change of gradient ascent points along the forgotten samples' gradient",
        partial(_measure_least_cosine, "gradient_ascent", "pair"),
        low=0.99,
        high=None,
        unit="cosine",
    ),
    Case(
        "sign_of_retraining",
        "after retraining, the forgotten samples' gradient at BASE follows from BASE, N and k",
        partial(_measure_least_cosine, "retrain", "base"),
        low=0.99,
        high=None,
        unit="cosine",
    ),
)
