"""A dense first layer reveals its input exactly: gradient of the weights over gradient of the
bias."""

from __future__ import annotations

import torch

from shared.ml import metrics
from shared.ml.attacks.api import estimate_gradient
from shared.ml.context import make_generator
from shared.ml.networks import build_network, list_parameter_names
from shared.ml.samples import Samples
from workers.selftest._case import Case
from workers.selftest._world import draw_samples, make_architecture, observe

DELETIONS = 4


def _measure_worst_psnr() -> float:
    """PSNR of the worst deletion. Source: Geiping et al. 2020, arXiv 2003.14053, proposition
    3.1."""
    architecture = make_architecture("mlp", hidden=16)
    data = draw_samples("training set", 8)
    double = Samples(data.images.double(), data.labels)
    view = observe(
        architecture,
        build_network(architecture, make_generator(0, "weights")).double(),
        double,
        "gradient_ascent",
        DELETIONS,
    )
    weight, bias = (
        estimate_gradient(view, "pair").direction[name].double()
        for name in list_parameter_names(view.original)[:2]
    )
    strongest_unit = bias.abs().argmax(1)
    every = torch.arange(DELETIONS)
    inputs = weight[every, strongest_unit] / bias[every, strongest_unit].unsqueeze(1)
    mean, std = torch.tensor(architecture.mean), torch.tensor(architecture.std)
    images = (inputs * std + mean).view(DELETIONS, *architecture.input_shape)
    scores: torch.Tensor = metrics.registry.get("psnr").target(images, double.images[:DELETIONS])
    return scores.min().item()


CASES = (
    Case(
        "dense_layer",
        "a dense first layer reveals the forgotten image",
        _measure_worst_psnr,
        low=60,
        high=None,
        unit="dB",
    ),
)
