"""The gradient target of an attack: the raw estimate or its part specific to one deletion, and the
evaluation point."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from shared.errors import InvalidRequest
from shared.ml.attack_io import WhiteBoxView
from shared.ml.attacks._estimate import GradientEstimate, Tensors, add_controls, estimate_gradient
from shared.ml.attacks._shared_subspace import SharedSubspace
from shared.ml.networks import Networks, list_parameter_names
from shared.plugins import Params

TargetKind = Annotated[
    Literal["raw", "filtered"],
    Field(
        description=(
            "raw: the unchanged estimate; filtered: without the component that it shares with "
            "other deletions from the same model, for an attacker who sees several released "
            "models"
        )
    ),
]
EvaluationPoint = Annotated[
    float,
    Field(
        ge=0,
        le=1,
        description=(
            "where gradients are evaluated: 0 at the weights before the deletion, 1 at those "
            "after it, or in between (for updates of several steps); values above 0 are three "
            "times slower"
        ),
    ),
]


class TargetParams(Params):
    """Parameters of attacks that use this file."""

    target: TargetKind = "raw"
    evaluation_point: EvaluationPoint = 0.0


def build_gradient_target(
    view: WhiteBoxView,
    gradient_from: str,
    params: TargetParams,
    controls: int = 0,
    generator: torch.Generator | None = None,
) -> GradientEstimate:
    """Build the target of an attack: `estimate_gradient`, then as `params` say.

    Args:
        controls: random directions, drawn from `generator`, in place of the first deletions and
            treated alike.

    Raises:
        InvalidRequest: as `estimate_gradient`, or `filtered` has nothing to compare with.
    """
    estimate = estimate_gradient(view, gradient_from)
    if params.evaluation_point:
        estimate = estimate._replace(
            evaluation_point=_interpolate(
                estimate.evaluation_point, view.unlearned, params.evaluation_point
            )
        )
    if controls:
        assert generator is not None
        estimate = add_controls(estimate, controls, generator)
    return (
        remove_shared_part(estimate, view.unlearned.count)
        if params.target == "filtered"
        else estimate
    )


def count_releases_compared(view: WhiteBoxView, params: TargetParams) -> int:
    """The number of released models that each result uses."""
    return view.unlearned.count if params.target == "filtered" else 1


def remove_shared_part(estimate: GradientEstimate, deletions: int) -> GradientEstimate:
    """Project the span of the other deletions' directions out of each direction, and of gradients
    compared with it.

    An update of many steps is the forgotten samples' gradient plus a drift that all deletions
    share, since fine-tuning starts from the same model with nearly the same samples. Gradients are
    projected like the direction (`GradientEstimate.shared_subspace`), so that they can agree. With
    coordinate weights, which differ by deletion, only the direction is filtered.

    Args:
        deletions: how many of the directions belong to deletions; the rest (controls) are filtered
            like the first ones.

    Raises:
        InvalidRequest: fewer than two deletions of one model, or all changed it in the same way.
    """
    if deletions < 2:
        raise InvalidRequest(
            "target: filtered needs at least two deletions from the same model, got one; use "
            "target: raw, or at least two deletions that are not successive",
            "params.target",
        )
    rows = [row % deletions for row in range(len(next(iter(estimate.direction.values()))))]
    subspace = SharedSubspace.from_directions(estimate.direction, deletions, rows)
    if subspace.residual_direction.shape[1] < 2:
        raise InvalidRequest(
            "all deletions changed the model in the same direction, so filtering leaves nothing",
            "params.target",
        )
    residual = subspace.project_out({n: g.double() for n, g in estimate.direction.items()})
    like = next(iter(estimate.direction.values()))
    if estimate.coordinate_weights is not None:
        return estimate._replace(
            direction=_normalise(
                {n: g * (estimate.coordinate_weights[n] > 0) for n, g in residual.items()}, like
            )
        )
    return estimate._replace(
        direction=_normalise(residual, like), shared_subspace=subspace.to(like)
    )


def _normalise(direction: Tensors, like: Tensor) -> Tensors:
    """Scaled to norm 1 each, with that tensor's type."""
    norm = (
        torch.stack([g.flatten(1).square().sum(1) for g in direction.values()])
        .sum(0)
        .sqrt()
        .clamp_min(1e-30)
    )
    return {n: (g / norm.view(-1, *[1] * (g.dim() - 1))).to(like) for n, g in direction.items()}


def _interpolate(before: Networks, after: Networks, share: float) -> Networks:
    """Networks in between, one per deletion; BatchNorm statistics are those before."""
    trained = set(list_parameter_names(before))
    state = {}
    for name, old in before.state.items():
        start = old.expand(after.count, *old.shape[1:])
        state[name] = torch.lerp(start, after.state[name], share) if name in trained else start
    return Networks(before.architecture, state, after.count)
