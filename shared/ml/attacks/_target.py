"""What candidates are held against: the estimate as it is, or what is a deletion's own in it; and at which weights."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from shared.errors import InvalidRequest
from shared.ml.attacks._common import Common
from shared.ml.attacks._estimate import Estimate, Tensors, gradient_direction, with_controls
from shared.ml.networks import Networks, parameters
from shared.ml.observations import Observation
from shared.plugins import Params

Target = Annotated[
    Literal["raw", "filtered"],
    Field(
        description="the estimate as it is; or without what it has in common with the other deletions' from the same "
        "model: for an attacker who sees several released models"
    ),
]
GradientAt = Annotated[
    float,
    Field(
        ge=0,
        le=1,
        description="where candidates' gradients are taken, as a share of the way from the weights before to those "
        "after: for updates of several steps; three times as slow",
    ),
]


class Aim(Params):
    """The parameters of this file, of attacks that have them."""

    target: Target = "raw"
    gradient_at: GradientAt = 0.0


def aimed(
    observation: Observation, gradient_from: str, aim: Aim, controls: int = 0, generator: torch.Generator | None = None
) -> Estimate:
    """What candidates are held against: `gradient_direction`, then as `aim` says.

    Args:
        controls: random directions drawn from `generator` that stand for the first deletions again, aimed alike.

    Raises:
        InvalidRequest: as `gradient_direction`, or `filtered` has nothing to compare with.
    """
    estimate = gradient_direction(observation, gradient_from)
    if aim.gradient_at:
        estimate = estimate._replace(at=_on_the_way(estimate.at, observation.unlearned, aim.gradient_at))
    if controls:
        assert generator is not None
        estimate = with_controls(estimate, controls, generator)
    return filtered(estimate, observation.unlearned.count) if aim.target == "filtered" else estimate


def compared(observation: Observation, aim: Aim) -> int:
    """Released models that each answer rests on."""
    return observation.unlearned.count if aim.target == "filtered" else 1


def filtered(estimate: Estimate, deletions: int) -> Estimate:
    """Each direction, and each gradient that is held against it, without the span of the other deletions' directions.

    An update of many steps is a gradient of the forgotten samples and a drift that all deletions share, as fine-tuning
    goes on from the same model with nearly the same samples. Candidates' gradients lose what the direction has lost
    (`Estimate.common`), so that they can agree; not where coordinates are trusted unequally, as deletions are then
    trusted each in its own. There nothing but the direction is filtered.

    Args:
        deletions: how many of the directions are of deletions; those after them (controls) stand for the first ones
            again and go through the same filter.

    Raises:
        InvalidRequest: fewer than two deletions of one model, or all changed it in the same way.
    """
    if deletions < 2:
        raise InvalidRequest(
            "target: filtered compares deletions from the same model, and here is one; use target: raw, or more "
            "deletions that are not successive",
            "params.target",
        )
    rows = [row % deletions for row in range(len(next(iter(estimate.direction.values()))))]
    common = Common.of(estimate.direction, deletions, rows)
    if common.own.shape[1] < 2:
        raise InvalidRequest("nothing is any deletion's own: all changed the model in the same way", "params.target")
    own = common.off({n: g.double() for n, g in estimate.direction.items()})
    like = next(iter(estimate.direction.values()))
    if estimate.trust is not None:
        return estimate._replace(direction=_unit({n: g * (estimate.trust[n] > 0) for n, g in own.items()}, like))
    return estimate._replace(direction=_unit(own, like), common=common.to(like))


def _unit(direction: Tensors, like: Tensor) -> Tensors:
    """Of norm 1 each, with that tensor's type."""
    norm = torch.stack([g.flatten(1).square().sum(1) for g in direction.values()]).sum(0).sqrt().clamp_min(1e-30)
    return {n: (g / norm.view(-1, *[1] * (g.dim() - 1))).to(like) for n, g in direction.items()}


def _on_the_way(before: Networks, after: Networks, share: float) -> Networks:
    """Networks between, one a deletion; BatchNorm statistics are those before."""
    trained = set(parameters(before))
    state = {}
    for name, old in before.state.items():
        start = old.expand(after.count, *old.shape[1:])
        state[name] = torch.lerp(start, after.state[name], share) if name in trained else start
    return Networks(before.architecture, state, after.count)
