"""A random model and what one step of ascent on a random image makes of it: the smallest thing that
can be attacked."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

from shared.ml.attack_io import WhiteBoxView
from shared.ml.context import make_generator
from shared.ml.networks import Architecture, Networks, build_network
from shared.plugin_ref import PluginRef

LABEL = 3
SMALL = Architecture(
    model=PluginRef(name="convnet", params={"width": 4}),
    input_shape=(1, 12, 12),
    num_classes=5,
    mean=(0.5,),
    std=(0.25,),
)


def ascend(architecture: Architecture, deletions: int = 1) -> WhiteBoxView:
    """A model, and the same after one step of ascent on one random image, per deletion."""
    network = build_network(architecture, make_generator(0, "weights"))
    original = {n: t.clone().unsqueeze(0) for n, t in network.state_dict().items()}
    unlearned = {n: t.expand(deletions, *t.shape[1:]).clone() for n, t in original.items()}
    shape = (deletions, 1, *architecture.input_shape)
    for deletion, image in enumerate(torch.rand(shape, generator=make_generator(0, "image"))):
        loss = cross_entropy(network(image), torch.tensor([LABEL]))
        names, parameters = zip(*network.named_parameters(), strict=True)
        for name, gradient in zip(names, torch.autograd.grad(loss, parameters), strict=True):
            unlearned[name][deletion] += gradient
    return WhiteBoxView(
        Networks(architecture, original, 1),
        Networks(architecture, unlearned, deletions),
        labels=torch.full((deletions, 1), LABEL),
    )
