"""From weights to what they betray: the gradient's direction, and the class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from shared.errors import InvalidRequest
from shared.ml.attacks._common import Common
from shared.ml.networks import Networks, parameters
from shared.ml.observations import Observation
from shared.roles import Role

Tensors = dict[str, Tensor]
GradientFrom = Annotated[
    Literal["pair", "base", "either"],
    Field(
        description="estimate from ORIGINAL and UNLEARNED; from BASE, N and k as well (exact unlearning); "
        "or whichever of the two looks more like a gradient"
    ),
]
Adaptive = Annotated[bool, Field(description="the attacker knows the defense and its settings, and makes use of that")]


class Estimate(NamedTuple):
    """A direction, and where it is a gradient: `at` holds 1 network or D, `direction` per parameter [D, *shape].

    Where there is a `trust` (`Observation.trust`) the direction is weighed by it, and so must a gradient be that is
    held against it. Where there is a `common` (`filtered`) both are compared without it.
    """

    at: Networks
    direction: Tensors
    trust: Tensors | None = None
    common: Common | None = None


def gradient_direction(observation: Observation, gradient_from: str) -> Estimate:
    """Estimate the direction of the forgotten samples' mean loss gradient.

    `pair`: theta_u - theta, at theta. Right up to length for one ascent step; for retraining it holds minus
    the retain set's gradient as well.
    `base`: (N - k) (theta_u - theta_0) - N (theta - theta_0), at theta_0. Right up to length where training
    and retraining were one full-batch step each, an estimate beyond. Computed in float64: it is a small
    difference of large numbers.

    Returns:
        float32, each deletion's direction of joint norm 1, weighed by the observation's trust.

    Raises:
        InvalidRequest: BASE or COUNTS is missing, or a deletion changed nothing.
    """
    after, before = observation.unlearned.state, observation.original.state
    at = observation.original
    names = parameters(at)
    if gradient_from == "base":
        at, counts = observation.exact()
        kept = counts.N - counts.k
        start = at.state
        raw = {
            n: kept * (after[n].double() - start[n].double()) - counts.N * (before[n].double() - start[n].double())
            for n in names
        }
    else:
        raw = {n: after[n].double() - before[n].double() for n in names}
    trust = observation.trust
    if trust is not None:
        raw = {n: g * trust[n] for n, g in raw.items()}
    norm = torch.stack([g.flatten(1).square().sum(1) for g in raw.values()]).sum(0).sqrt()
    if not bool((norm > 0).all()):
        which = int((~(norm > 0)).nonzero()[0])
        raise InvalidRequest(
            f"deletion {which} left no trace in the weights: nothing to attack", f"inputs.{Role.UNLEARNED}"
        )
    return Estimate(at, {n: (g / norm.view(-1, *[1] * (g.dim() - 1))).float() for n, g in raw.items()}, trust)


def with_controls(estimate: Estimate, controls: int, generator: torch.Generator) -> Estimate:
    """The estimate with random directions of norm 1 for `controls` more deletions, drawn on the CPU.

    They are trusted as the first deletions' are.
    """
    drawn = {n: torch.randn(controls, *g.shape[1:], generator=generator) for n, g in estimate.direction.items()}
    trust = estimate.trust
    if trust is not None:
        drawn = {n: g * trust[n][:controls] for n, g in drawn.items()}
        trust = {n: torch.cat([t, t[:controls]]) for n, t in trust.items()}
    norm = torch.stack([g.flatten(1).square().sum(1) for g in drawn.values()]).sum(0).sqrt()
    unit = {n: g / norm.view(-1, *[1] * (g.dim() - 1)) for n, g in drawn.items()}
    at = estimate.at
    if at.count > 1:
        at = at.pick([*range(at.count), *range(controls)])
    return Estimate(at, {n: torch.cat([g, unit[n]]) for n, g in estimate.direction.items()}, trust)


def class_scores(
    observation: Observation,
    gradient_from: str,
    find: Callable[[Observation, str], Estimate] = gradient_direction,
) -> Tensor:
    """The white box score of each class, [D, K], lower is likelier: the estimated gradient of the last bias.

    The gradient of cross entropy in that bias is (probabilities - one-hot), negative at the true classes only. An
    estimate that also holds other samples' gradients is negative elsewhere too: of `either` estimate, the one with
    less of that is taken, for all deletions alike.

    Raises:
        InvalidRequest: the network does not end in a layer with a bias, or BASE or COUNTS is missing.
    """
    architecture, names = observation.original.architecture, parameters(observation.original)
    last = names[-1]
    if observation.original.state[last].shape[1:] != (architecture.num_classes,):
        raise InvalidRequest("the white box label rule needs a last layer with a bias", f"inputs.{Role.ORIGINAL}")
    sources = ["pair", "base"] if gradient_from == "either" else [gradient_from]
    found = [find(observation, source).direction[last] for source in sources]
    return min(found, key=lambda scores: _impurity(scores, observation.named))


def _impurity(scores: Tensor, k: int) -> float:
    """Share of what is negative that stands outside each deletion's k lowest, mean over deletions."""
    negative = (-scores.double()).clamp_min(0)
    inside = negative.topk(min(k, scores.shape[1]), dim=1).values.sum(1)
    return (1 - inside / negative.sum(1).clamp_min(1e-300)).mean().item()


def infer_labels(scores: Tensor, k: int) -> Tensor:
    """The k classes of the lowest scores, lowest first, [D, K] -> [D, k].

    How many of several samples are of one class cannot be told.

    Raises:
        InvalidRequest: k is above the number of classes.
    """
    if k > scores.shape[1]:
        raise InvalidRequest(f"the rule tells {scores.shape[1]} classes apart, not {k}", "params.labels")
    return scores.topk(k, dim=1, largest=False, sorted=True).indices
