"""The estimated gradient points where the forgotten sample's own gradient does, sign included."""

from __future__ import annotations

from functools import partial

import torch
from torch.nn.functional import cross_entropy

from shared.ml.attacks.api import estimate_gradient
from shared.ml.context import make_generator
from shared.ml.networks import build_network
from shared.ml.samples import Samples
from workers.selftest._case import Case
from workers.selftest._world import architecture, observe, samples

DELETIONS, K = 3, 2
# all of one class: else their gradients cancel, and what holds them too looks right
KEPT = [8, 12, 16, 20, 24, 28]


def _cosine(method: str, gradient_from: str) -> float:
    """The least over deletions, in float64 and with a network that has BatchNorm."""
    made = architecture("convnet", width=2)
    base = build_network(made, make_generator(0, "weights")).double()
    images, labels = samples("training set", 32).pick([*range(DELETIONS * K), *KEPT])
    data = Samples(images.double(), labels)
    seen = observe(made, base, data, method, DELETIONS, K)
    at, direction, *_ = estimate_gradient(seen, gradient_from)
    network = at.load_network().double()
    network.load_state_dict({name: stacked[0] for name, stacked in at.state.items()})
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
        "after gradient ascent, after minus before is the forgotten samples' gradient",
        partial(_cosine, "gradient_ascent", "pair"),
        low=0.99,
        high=None,
        unit="cosine",
    ),
    Case(
        "sign_of_retraining",
        "after retraining, base, N and k give the forgotten samples' gradient at the base model",
        partial(_cosine, "retrain", "base"),
        low=0.99,
        high=None,
        unit="cosine",
    ),
)
