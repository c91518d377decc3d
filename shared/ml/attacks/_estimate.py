"""From weights to what they betray: the gradient's direction, and the class."""

from __future__ import annotations

import torch
from torch import Tensor

from shared.errors import InvalidRequest
from shared.ml.attacks._observation import Observation
from shared.ml.networks import Networks

Tensors = dict[str, Tensor]


def parameters(networks: Networks) -> list[str]:
    """Names of the trained weights, in the network's order; BatchNorm statistics are not among them."""
    return [name for name, _ in networks.network().named_parameters()]


def gradient_direction(observation: Observation, gradient_from: str) -> tuple[Networks, Tensors]:
    """Estimate the direction of the forgotten samples' mean loss gradient.

    `pair`: theta_u - theta, at theta. Right up to length for one ascent step; for retraining it holds minus
    the retain set's gradient as well.
    `base`: (N - k) (theta_u - theta_0) - N (theta - theta_0), at theta_0. Right up to length where training
    and retraining were one full-batch step each, an estimate beyond. Computed in float64: it is a small
    difference of large numbers.

    Returns:
        the networks it is a gradient at (1 network), and per parameter [D, *shape] float32, each deletion's
        of joint norm 1.

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
    norm = torch.stack([g.flatten(1).square().sum(1) for g in raw.values()]).sum(0).sqrt()
    if not bool((norm > 0).all()):
        which = int((norm == 0).nonzero()[0])
        raise InvalidRequest(f"deletion {which} left no trace in the weights: nothing to attack", "inputs.UNLEARNED")
    return at, {n: (g / norm.view(-1, *[1] * (g.dim() - 1))).float() for n, g in raw.items()}


def bias_change(observation: Observation) -> Tensor:
    """Change of the last layer's bias, theta_u - theta, [D, K]: the white box score of each class.

    The gradient of cross entropy in that bias is (probabilities - one-hot), negative at the true class only.

    Raises:
        InvalidRequest: the network does not end in a layer with a bias.
    """
    classes = observation.original.architecture.num_classes
    last = parameters(observation.original)[-1]
    before, after = observation.original.state[last], observation.unlearned.state[last]
    if before.shape[1:] != (classes,):
        raise InvalidRequest("the white box label rule needs a last layer with a bias", "inputs.ORIGINAL")
    return after - before


def infer_labels(scores: Tensor, k: int) -> Tensor:
    """The k classes of the lowest scores, [D, K] -> [D, k]; several of one class cannot be told.

    Raises:
        InvalidRequest: k is above the number of classes.
    """
    if k > scores.shape[1]:
        raise InvalidRequest(f"the rule tells {scores.shape[1]} classes apart, not {k}", "params.labels")
    return scores.topk(k, dim=1, largest=False, sorted=True).indices
