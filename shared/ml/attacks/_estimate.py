"""Estimates the gradient's direction and the class scores from weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from shared.errors import InvalidRequest
from shared.ml.attack_io import WhiteBoxView
from shared.ml.attacks._shared_subspace import SharedSubspace
from shared.ml.networks import Networks, list_parameter_names
from shared.roles import Role

Tensors = dict[str, Tensor]
GradientFrom = Annotated[
    Literal["pair", "base", "either"],
    Field(
        description=(
            "pair: estimate from ORIGINAL and UNLEARNED; base: also from BASE, N and k (exact "
            "unlearning); either: whichever of the two matches better"
        )
    ),
]
Adaptive = Annotated[
    bool, Field(description="adaptive attack: the attacker knows the defense and its settings")
]


class GradientEstimate(NamedTuple):
    """An estimated gradient direction: `evaluation_point` holds the 1 or D networks at which it is
    a gradient, `direction` is by parameter [D, *shape].

    With `coordinate_weights` (`WhiteBoxView.coordinate_weights`) the direction is weighted by them,
    and gradients compared with it must be weighted too. With a `shared_subspace` (target
    `filtered`) both are compared after projecting it out.
    """

    evaluation_point: Networks
    direction: Tensors
    coordinate_weights: Tensors | None = None
    shared_subspace: SharedSubspace | None = None


def estimate_gradient(view: WhiteBoxView, gradient_from: str) -> GradientEstimate:
    """Estimate the direction of the forgotten samples' mean loss gradient.

    `pair`: theta_u - theta, at theta. Correct up to scale for one ascent step; for retraining it
    also contains minus the retain set's gradient. `base`: (N - k) (theta_u - theta_0) - N (theta -
    theta_0), at theta_0. Correct up to scale if training and retraining were one full-batch step
    each, otherwise an approximation. Computed in float64: it is a small difference of large
    numbers.

    Returns:
        float32, each deletion's direction with joint norm 1, weighted by the view's coordinate
            weights.

    Raises:
        InvalidRequest: BASE or DELETION_SIZES is missing, or a deletion changed nothing.
    """
    after, before = view.unlearned.state, view.original.state
    evaluation_point = view.original
    names = list_parameter_names(evaluation_point)
    if gradient_from == "base":
        evaluation_point, counts = view.require_base()
        kept = counts.N - counts.k
        start = evaluation_point.state
        raw = {
            n: kept * (after[n].double() - start[n].double())
            - counts.N * (before[n].double() - start[n].double())
            for n in names
        }
    else:
        raw = {n: after[n].double() - before[n].double() for n in names}
    coordinate_weights = view.coordinate_weights
    if coordinate_weights is not None:
        raw = {n: g * coordinate_weights[n] for n, g in raw.items()}
    norm = torch.stack([g.flatten(1).square().sum(1) for g in raw.values()]).sum(0).sqrt()
    if not bool((norm > 0).all()):
        deletion = int((~(norm > 0)).nonzero()[0])
        raise InvalidRequest(
            f"deletion {deletion} did not change any weight, so there is nothing to attack",
            f"inputs.{Role.UNLEARNED}",
        )
    return GradientEstimate(
        evaluation_point,
        {n: (g / norm.view(-1, *[1] * (g.dim() - 1))).float() for n, g in raw.items()},
        coordinate_weights,
    )


def add_controls(
    estimate: GradientEstimate, controls: int, generator: torch.Generator
) -> GradientEstimate:
    """The estimate with random directions of norm 1 for `controls` more deletions, drawn on the
    CPU.

    They get the coordinate weights of the first deletions.
    """
    random_directions = {
        n: torch.randn(controls, *g.shape[1:], generator=generator)
        for n, g in estimate.direction.items()
    }
    coordinate_weights = estimate.coordinate_weights
    if coordinate_weights is not None:
        random_directions = {
            n: g * coordinate_weights[n][:controls] for n, g in random_directions.items()
        }
        coordinate_weights = {
            n: torch.cat([t, t[:controls]]) for n, t in coordinate_weights.items()
        }
    norm = (
        torch.stack([g.flatten(1).square().sum(1) for g in random_directions.values()])
        .sum(0)
        .sqrt()
    )
    unit = {n: g / norm.view(-1, *[1] * (g.dim() - 1)) for n, g in random_directions.items()}
    evaluation_point = estimate.evaluation_point
    if evaluation_point.count > 1:
        evaluation_point = evaluation_point.pick([*range(evaluation_point.count), *range(controls)])
    return GradientEstimate(
        evaluation_point,
        {n: torch.cat([g, unit[n]]) for n, g in estimate.direction.items()},
        coordinate_weights,
    )


def score_classes(
    view: WhiteBoxView,
    gradient_from: str,
    estimator: Callable[[WhiteBoxView, str], GradientEstimate] = estimate_gradient,
) -> Tensor:
    """The white-box score of each class, [D, K], lower is likelier: the estimated gradient of the
    last bias.

    The gradient of cross entropy in that bias is (probabilities - one-hot), negative at the true
    classes only. An estimate that contains other samples' gradients is negative elsewhere too:
    `either` takes the estimate with less of that, for all deletions.

    Raises:
        InvalidRequest: the network does not end in a layer with a bias, or BASE or DELETION_SIZES
            is missing.
    """
    architecture, names = view.original.architecture, list_parameter_names(view.original)
    last_bias = names[-1]
    if view.original.state[last_bias].shape[1:] != (architecture.num_classes,):
        raise InvalidRequest(
            "white-box label inference needs a model whose last layer has a bias: choose another "
            "model, or use label_inference_black_box",
            f"inputs.{Role.ORIGINAL}",
        )
    sources = ["pair", "base"] if gradient_from == "either" else [gradient_from]
    score_sets = [estimator(view, source).direction[last_bias] for source in sources]
    return min(score_sets, key=lambda scores: _measure_impurity(scores, view.num_guesses))


def _measure_impurity(scores: Tensor, k: int) -> float:
    """Share of the negative scores outside each deletion's k lowest, mean over deletions."""
    negative = (-scores.double()).clamp_min(0)
    inside = negative.topk(min(k, scores.shape[1]), dim=1).values.sum(1)
    return (1 - inside / negative.sum(1).clamp_min(1e-300)).mean().item()


def infer_labels(scores: Tensor, k: int) -> Tensor:
    """The k classes of the lowest scores, lowest first, [D, K] -> [D, k].

    The number of samples per class cannot be inferred.

    Raises:
        InvalidRequest: k is above the number of classes.
    """
    if k > scores.shape[1]:
        raise InvalidRequest(
            f"the model has {scores.shape[1]} classes, so {k} different ones cannot be inferred",
            "params.labels",
        )
    return scores.topk(k, dim=1, largest=False, sorted=True).indices
