"""A dense first layer gives its input away exactly: gradient of the weights over gradient of the
bias."""

from __future__ import annotations

import torch

from shared.ml import metrics
from shared.ml.attacks.api import estimate_gradient
from shared.ml.context import make_generator
from shared.ml.networks import build_network, list_parameter_names
from shared.ml.samples import Samples
from workers.selftest._case import Case
from workers.selftest._world import architecture, observe, samples

DELETIONS = 4


def _psnr() -> float:
    """Of the deletion that comes out worst. Source: Geiping et al. 2020, arXiv 2003.14053,
    proposition 3.1."""
    made = architecture("mlp", hidden=16)
    data = samples("training set", 8)
    double = Samples(data.images.double(), data.labels)
    seen = observe(
        made,
        build_network(made, make_generator(0, "weights")).double(),
        double,
        "gradient_ascent",
        DELETIONS,
    )
    weight, bias = (
        estimate_gradient(seen, "pair").direction[name].double()
        for name in list_parameter_names(seen.original)[:2]
    )
    loudest = bias.abs().argmax(1)
    every = torch.arange(DELETIONS)
    inputs = weight[every, loudest] / bias[every, loudest].unsqueeze(1)
    mean, std = torch.tensor(made.mean), torch.tensor(made.std)
    images = (inputs * std + mean).view(DELETIONS, *made.input_shape)
    scores: torch.Tensor = metrics.registry.get("psnr").target(images, double.images[:DELETIONS])
    return scores.min().item()


CASES = (
    Case(
        "dense_layer",
        "a dense first layer gives the forgotten image away",
        _psnr,
        low=60,
        high=None,
        unit="dB",
    ),
)
