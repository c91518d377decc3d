"""Computes the forgotten image from a dense first layer, without a search."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn

from shared.errors import InvalidRequest
from shared.ml.attack_io import Reconstruction, WhiteBoxView
from shared.ml.attacks import registry
from shared.ml.attacks._estimate import (
    Adaptive,
    GradientEstimate,
    GradientFrom,
    estimate_gradient,
    infer_labels,
    score_classes,
)
from shared.ml.attacks._fallback import compute_matching_loss
from shared.ml.context import Context
from shared.ml.networks import Networks
from shared.plugins import Params
from shared.roles import Role


class AnalyticInversionParams(Params):
    gradient_from: GradientFrom = "pair"
    adaptive: Adaptive = False


@registry.register(
    "analytic_inversion",
    params=AnalyticInversionParams,
    needs=(Role.ORIGINAL, Role.UNLEARNED),
    needs_when={
        "gradient_from": {
            "base": (Role.BASE, Role.DELETION_SIZES),
            "either": (Role.BASE, Role.DELETION_SIZES),
        },
        "adaptive": {"True": (Role.DEFENSE, Role.PUBLIC)},
    },
    uses=(Role.DELETION_SIZES,),
    produces=(Role.RECONSTRUCTION,),
    source=(
        "Phong et al. 2018, 'Privacy-Preserving Deep Learning via Additively Homomorphic "
        "Encryption', section III"
    ),
    access="white_box",
)
def run(view: WhiteBoxView, params: AnalyticInversionParams, ctx: Context) -> Reconstruction:
    """The input of a dense first layer: each unit's weight gradient is its bias gradient times the
    input.

    Exact for one sample and an estimate that is its gradient; for a sum it is a mean of the inputs,
    weighted by the units. All units give the same input, so they are averaged, weighted by the
    square of their bias gradient (and of the coordinate weights, if any). No label is needed; the
    reported one is inferred from the last bias. `either` takes the estimate that its own images
    match better, for all deletions.

    Raises:
        InvalidRequest: the first layer is not dense on the image, there are several samples per
            deletion, a deletion left no trace there, or BASE or DELETION_SIZES is missing.
    """
    if view.deletion_size != 1:
        raise InvalidRequest(
            f"analytic_inversion needs the gradient of one sample, but {view.deletion_size} were "
            "forgotten together; use feature_recovery, or deletions of size 1",
            f"inputs.{Role.DELETION_SIZES}",
        )
    weight, bias = _find_first_layer(view.original)
    sources = ["pair", "base"] if params.gradient_from == "either" else [params.gradient_from]
    candidates = []
    for done, source in enumerate(sources, start=1):
        labels = infer_labels(score_classes(view, source), 1)
        estimate = estimate_gradient(view, source)
        images = _recover_inputs(estimate, weight, bias)
        candidates.append((source, images, labels, _compute_loss(estimate, images, labels)))
        ctx.report_progress(done, len(sources))
    source, images, labels, loss = min(candidates, key=lambda one: one[3].mean().item())
    return Reconstruction(images, labels, loss, [source] * len(images))


def _find_first_layer(networks: Networks) -> tuple[str, str]:
    """Names of the weight and the bias of the dense layer that receives the image.

    Raises:
        InvalidRequest: there is none.
    """
    network, size = networks.load_network(), prod(networks.architecture.input_shape)
    name, first = next(
        (n, m)
        for n, m in network.named_modules()
        if next(m.parameters(recurse=False), None) is not None
    )
    if not isinstance(first, nn.Linear) or first.in_features != size or first.bias is None:
        raise InvalidRequest(
            "analytic_inversion needs a dense first layer with a bias, as in mlp, but the first "
            f"layer of {networks.architecture.model.name} is {type(first).__name__}: use "
            "feature_recovery",
            f"inputs.{Role.ORIGINAL}",
        )
    return f"{name}.weight", f"{name}.bias"


def _recover_inputs(estimate: GradientEstimate, weight: str, bias: str) -> Tensor:
    """Images [D, 1, C, H, W], in [0, 1] if the estimate is a gradient; clamped when shown and
    scored."""
    architecture = estimate.evaluation_point.architecture
    weight_gradient, bias_gradient = (
        estimate.direction[weight].double(),
        estimate.direction[bias].double(),
    )
    # weight gradients are these times the input
    expected = bias_gradient.unsqueeze(2).expand_as(weight_gradient)
    if estimate.coordinate_weights is not None:
        unweighted = bias_gradient / estimate.coordinate_weights[bias].double().clamp_min(1e-30)
        expected = unweighted.unsqueeze(2) * estimate.coordinate_weights[weight].double()
    total = expected.square().sum(1)
    if not bool((total > 0).any(1).all()):
        deletion = int((~(total > 0).any(1)).nonzero()[0, 0])
        raise InvalidRequest(
            f"deletion {deletion} did not change the first layer's bias, so analytic_inversion has "
            "nothing to reconstruct from",
            f"inputs.{Role.UNLEARNED}",
        )
    # a pixel without any information is set to the data's mean
    pixels = (expected * weight_gradient).sum(1) / total.clamp_min(1e-300)
    mean, std = (
        torch.tensor(t, dtype=torch.float64).view(-1, 1, 1)
        for t in (architecture.mean, architecture.std)
    )
    return (pixels.view(-1, 1, *architecture.input_shape) * std + mean).float()


def _compute_loss(estimate: GradientEstimate, images: Tensor, labels: Tensor) -> Tensor:
    """1 - cos of each image's gradient and the estimate, [D]."""
    network = estimate.evaluation_point.load_network()
    weights = {name: w.detach() for name, w in network.named_parameters()}
    return compute_matching_loss(
        network,
        weights,
        images.clamp(0, 1),
        labels,
        estimate.direction,
        coordinate_weights=estimate.coordinate_weights,
    )
