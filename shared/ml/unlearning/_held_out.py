"""When a sample counts as forgotten: once its loss is that of samples that were never trained
on."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from shared.ml.context import Context
from shared.ml.loss import compute_loss
from shared.ml.samples import Samples
from shared.ml.unlearning._inputs import UnlearningInputs

MAX_HELD_OUT = 256  # samples that a forget set is compared with
FEW = 10  # samples of a class, below which the pool says too little about its loss
MAX_DIFFICULTY = 10.0  # of a forget set, times that of what is retained


def draw_held_out(
    pool: Samples, public: Samples, labels: Tensor, generator: torch.Generator
) -> Samples:
    """At most 256 samples of the classes in `labels`, as many of each as of the others, where there
    are so many.

    Args:
        pool: samples of the pool that were not trained on.
        public: the test split, for classes of which the pool has too few.
    """
    classes = labels.unique().tolist()
    per_class = max(1, MAX_HELD_OUT // len(classes))
    parts = []
    for label in classes[:MAX_HELD_OUT]:
        own, others = ((s.labels == label).nonzero().flatten() for s in (pool, public))
        source, members = (public, others) if len(own) < min(FEW, len(others)) else (pool, own)
        order = torch.randperm(len(members), generator=generator)
        parts.append(source.pick(members[order[:per_class]]))
    return Samples(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


class HeldOutRule:
    """Compares the loss on the forget set with that of samples that were never trained on.

    `goal` is the loss to reach, in nats: the original's on held-out samples of the same classes,
    times the difficulty of the forget set, which is its loss over that on retained samples of these
    classes. What is hard for a network that was trained on it is hard for one that was not
    (difficulty calibration, Watson et al. 2022, arXiv 2111.08440); the mean alone says little about
    a single sample.

    Of a class of which nothing is retained even held-out samples must be unknown: for it, the goal
    is how unlikely the original holds the class for retained samples.
    """

    def __init__(
        self,
        original: nn.Module,
        inputs: UnlearningInputs,
        retain: Samples,
        forget: Samples,
        ctx: Context,
    ) -> None:
        self._forget = Samples(*(t.to(ctx.device) for t in forget))
        classes, counts = forget.labels.unique(return_counts=True)
        retained = {*retain.labels.tolist()}
        held_out = trained = own = unlikeliness = 0.0  # sums over the forget set
        for label, count in zip(classes.tolist(), counts.tolist(), strict=True):
            if label in retained:
                held_out += count * _measure_loss(original, inputs.held_out, label, ctx)
                trained += count * _measure_loss(original, retain, label, ctx)
                own += count * _measure_loss(original, forget, label, ctx)
            else:
                unlikeliness += count * _measure_unlikeliness(original, retain, label, ctx)
        # a loss of 0, below the precision of its numbers, says nothing
        difficulty = min(MAX_DIFFICULTY, own / trained) if own and trained else 1.0
        self.goal = (difficulty * held_out + unlikeliness) / len(forget.labels)

    @property
    def has_goal(self) -> bool:
        """Whether there are samples to compare with."""
        return math.isfinite(self.goal)

    def measure_loss(self, network: nn.Module) -> float:
        """The mean loss on the forget set, in nats, in eval mode."""
        logits = _compute_logits(network, self._forget.images)
        return compute_loss(logits, self._forget.labels).item()


class ClosestEpoch:
    """Rewinding (Kurmanji et al. 2023, section 3.2): of all epochs, the one whose forget loss is
    closest to the goal. One copy of the weights is kept."""

    def __init__(self, rule: HeldOutRule) -> None:
        self._rule = rule
        self._distance = math.inf
        self._state: dict[str, Tensor] = {}
        self._steps = 0

    def observe(self, network: nn.Module, steps: int) -> None:
        """After every epoch, with the number of steps taken so far."""
        distance = abs(self._rule.measure_loss(network) - self._rule.goal)
        # without a goal all distances are infinite, and the last epoch is kept
        if not self._state or distance <= self._distance:
            self._distance = distance if math.isfinite(distance) else math.inf
            self._steps = steps
            self._state = {name: t.clone() for name, t in network.state_dict().items()}

    def rewind(self, network: nn.Module, inputs: UnlearningInputs) -> None:
        """Put the network back to that epoch, and record it."""
        network.load_state_dict(self._state)
        inputs.record_stop(self._steps, "closest_epoch" if self._rule.has_goal else "no_held_out")


def _measure_loss(network: nn.Module, samples: Samples | None, label: int, ctx: Context) -> float:
    """Mean loss on the samples of a class, at most 256; infinite without any."""
    if samples is None or not bool((samples.labels == label).any()):
        return math.inf
    images, labels = samples.pick((samples.labels == label).nonzero().flatten()[:MAX_HELD_OUT])
    return compute_loss(
        _compute_logits(network, images.to(ctx.device)), labels.to(ctx.device)
    ).item()


def _measure_unlikeliness(network: nn.Module, retain: Samples, label: int, ctx: Context) -> float:
    """Minus the mean log-probability of a class for samples of others; infinite without any."""
    if not len(retain.labels):
        return math.inf
    logits = _compute_logits(network, retain.images[:MAX_HELD_OUT].to(ctx.device))
    return -log_softmax(logits, dim=1)[:, label].mean().item()


@torch.no_grad()
def _compute_logits(network: nn.Module, images: Tensor) -> Tensor:
    """In eval mode; the network is as before afterwards."""
    training = network.training
    logits: Tensor = network.eval()(images)
    network.train(training)
    return logits
