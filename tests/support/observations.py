"""What a server sees of a few deletions from a training set of noise: and the truth, apart."""

from __future__ import annotations

import torch

from shared.ml.attack_io import WhiteBoxView
from shared.ml.context import make_generator
from shared.ml.networks import Architecture, build_network
from shared.ml.samples import Samples
from workers.selftest import _world

N = 8


def make_samples(architecture: Architecture, n: int = N) -> Samples:
    """Noise with labels."""
    source = make_generator(0, "samples")
    images = torch.rand(n, *architecture.input_shape, generator=source)
    return Samples(images, torch.randint(0, architecture.num_classes, (n,), generator=source))


def make_observation(
    architecture: Architecture, method: str, deletions: int = 3, k: int = 1, double: bool = False
) -> tuple[WhiteBoxView, Samples]:
    """The weights that a server sees, and the truth [deletions * k] that it does not."""
    data, base = (
        make_samples(architecture),
        build_network(architecture, make_generator(0, "weights")),
    )
    if double:
        base, data = base.double(), Samples(data.images.double(), data.labels)
    view = _world.observe(architecture, base, data, method, deletions, k)
    return view, data.pick(list(range(deletions * k)))
