"""What candidates are held against: the estimate as it is, or what is a deletion's own in it; and at which weights."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from shared.errors import InvalidRequest
from shared.ml.attacks._estimate import Estimate, Tensors, gradient_direction, parameters, with_controls
from shared.ml.attacks._observation import Observation
from shared.ml.networks import Networks
from shared.registry import Params

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
        "after: for updates of several steps",
    ),
]
ROUNDS = 50  # of Weiszfeld's iteration; 8 give the same to two digits


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
    """Each direction without its part along what is common to the other deletions.

    An update of many steps is a gradient of the forgotten samples and a drift that all deletions share, as fine-tuning
    goes on from the same model with nearly the same samples. The common part is the geometric median of the others'
    directions: a mean is carried away by the one deletion whose gradient is long. It is taken off by projection, which
    leaves alone what has nothing in common. Done on the inner products, so that large networks are read once.

    Args:
        deletions: how many of the directions are of deletions; those after them (controls) stand for the first ones
            again and go through the same filter.

    Raises:
        InvalidRequest: fewer than two deletions of one model, or nothing is left of one.
    """
    if deletions < 2:
        raise InvalidRequest(
            "target: filtered compares deletions from the same model, and here is one; use target: raw, or more "
            "deletions that are not successive",
            "params.target",
        )
    flat = [g.flatten(1).double() for g in estimate.direction.values()]
    gram = torch.stack([g @ g.T for g in flat]).sum(0)
    rows = len(gram)
    keep = torch.eye(rows, dtype=torch.float64, device=gram.device)
    for row in range(rows):
        others = [d for d in range(deletions) if d != row % deletions]
        weights = torch.zeros_like(gram[0])
        weights[others] = _median(gram[others][:, others])
        along = gram @ weights
        keep[row] -= along[row] / (weights @ along).clamp_min(1e-300) * weights
    length = torch.einsum("ri,ij,rj->r", keep, gram, keep).clamp_min(0).sqrt()
    if not bool((length > 1e-6).all()):
        which = int((length <= 1e-6).nonzero()[0])
        raise InvalidRequest(
            f"nothing of deletion {which} is its own: the others changed the model in the same way", "params.target"
        )
    keep /= length.unsqueeze(1)
    own = {n: (keep @ f).view_as(g).float() for (n, g), f in zip(estimate.direction.items(), flat, strict=True)}
    return estimate._replace(direction=own if estimate.trust is None else _within(own, estimate.trust))


def _within(direction: Tensors, trust: Tensors) -> Tensors:
    """Directions without what others brought to coordinates that are not trusted, again of norm 1."""
    kept = {n: g * (trust[n] > 0) for n, g in direction.items()}
    norm = torch.stack([g.flatten(1).square().sum(1) for g in kept.values()]).sum(0).sqrt().clamp_min(1e-30)
    return {n: g / norm.view(-1, *[1] * (g.dim() - 1)) for n, g in kept.items()}


def _median(gram: Tensor) -> Tensor:
    """Weights [M], of sum 1, that make M points' geometric median out of them, from their inner products [M, M]."""
    weights = torch.full_like(gram[0], 1 / len(gram))
    for _ in range(ROUNDS):
        squared = gram.diagonal() - 2 * gram @ weights + weights @ gram @ weights
        near = 1 / squared.clamp_min(1e-24).sqrt()
        weights = near / near.sum()
    return weights


def _on_the_way(before: Networks, after: Networks, share: float) -> Networks:
    """Networks between, one a deletion; BatchNorm statistics are those before."""
    trained = set(parameters(before))
    state = {}
    for name, old in before.state.items():
        start = old.expand(after.count, *old.shape[1:])
        state[name] = torch.lerp(start, after.state[name], share) if name in trained else start
    return Networks(before.architecture, state, after.count)
