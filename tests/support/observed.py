"""What a server sees of a few deletions, made in a moment: weights before and after; and the truth, apart."""

from __future__ import annotations

import torch
from torch import nn

from shared.ml.attacks._observation import Observation
from shared.ml.context import LocalContext, Part, generator
from shared.ml.datasets._base import Samples
from shared.ml.networks import Architecture, Networks, build, clone
from shared.ml.records import Counts
from shared.ml.training.recipe import Recipe
from shared.ml.training.sgd import train
from shared.ml.unlearning import gradient_ascent, retrain
from shared.ml.unlearning._inputs import UnlearningInputs

N = 8


def samples(architecture: Architecture, n: int = N) -> Samples:
    """Noise with labels."""
    source = generator(0, "samples")
    images = torch.rand(n, *architecture.input_shape, generator=source)
    return Samples(images, torch.randint(0, architecture.num_classes, (n,), generator=source))


def stack(networks: list[nn.Module], architecture: Architecture) -> Networks:
    states = [network.state_dict() for network in networks]
    return Networks(architecture, {n: torch.stack([s[n] for s in states]) for n in states[0]}, len(networks))


def observe(
    architecture: Architecture, method: str, deletions: int = 3, k: int = 1, double: bool = False
) -> tuple[Observation, Samples]:
    """The weights that a server sees, and the truth [deletions * k] that it does not."""
    data = samples(architecture)
    base = build(architecture, generator(0, "weights"))
    if double:
        base, data = base.double(), Samples(data.images.double(), data.labels)
    original = clone(base)
    ctx = LocalContext()
    train(original, data, Recipe(lr=1e-2), ctx)
    unlearned = []
    for i in range(deletions):
        gone = list(range(i * k, (i + 1) * k))
        kept = [place for place in range(N) if place not in gone]
        plugin = {"gradient_ascent": gradient_ascent, "retrain": retrain}[method]
        params = retrain.RetrainParams() if method == "retrain" else gradient_ascent.GradientAscentParams()
        inputs = UnlearningInputs(clone(original), clone(base), Recipe(lr=1e-2))
        part = Part(ctx, i, deletions)
        unlearned.append(plugin.unlearn(inputs, data.pick(kept), data.pick(gone), params, part))
    truth = data.pick(list(range(deletions * k)))
    original_, unlearned_, base_ = (stack(networks, architecture) for networks in ([original], unlearned, [base]))
    return Observation(original_, unlearned_, base_, Counts(N=N, k=k), truth.labels.view(deletions, k)), truth
