"""The search for images that explain a weight change, from several starts and under several explanations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from shared.ml.attacks import _matching, _plain
from shared.ml.attacks._adam import AdamW
from shared.ml.attacks._common import Common
from shared.ml.attacks._estimate import Estimate
from shared.ml.attacks._schedules import Arithmetic, Schedule
from shared.ml.context import Context

WAYS: Mapping[Arithmetic, ModuleType] = {"plain": _plain, "batched": _matching}
LANES_AT_ONCE = 32  # bounds memory; on one CPU core more lanes at once are no quicker
SCOUTING = 0.15  # share of the steps after which all go on with one explanation only
LABEL_LR = 1.0  # of the logits of classes that are sought with the images
SETTLING = 0.1  # share of the steps after which each start keeps to its likeliest classes


@dataclass
class Starts:
    """Lanes: one start of one deletion under one explanation each, as rows (deletion, estimate, start) of `place`.

    `classes` are the logits [L, k, K] of labels that are sought with the images, None where they are known.
    """

    place: Tensor
    search: AdamW
    classes: AdamW | None = None

    def keep(self, rows: Tensor) -> Starts:
        return Starts.of_state({name: t[rows] for name, t in self.state().items()})

    def state(self) -> dict[str, Tensor]:
        """All of it, each [L, ...]."""
        classes = {} if self.classes is None else {f"classes.{name}": t for name, t in self.classes.state().items()}
        return self.search.state() | classes | {"place": self.place}

    @classmethod
    def of_state(cls, state: dict[str, Tensor]) -> Starts:
        """From what `state` gave."""
        classes = {n.removeprefix("classes."): t for n, t in state.items() if n.startswith("classes.")}
        return cls(state["place"], AdamW.of_state(state), AdamW.of_state(classes) if classes else None)

    def of(self, estimate: int) -> tuple[Tensor, Tensor]:
        """Rows of that explanation, and their deletions."""
        rows = (self.place[:, 1] == estimate).nonzero().flatten()
        return rows, self.place[rows, 0]


class Point(NamedTuple):
    """Weights at which gradients are taken."""

    network: nn.Module
    weights: dict[str, Tensor]
    match: _matching.Matcher


class Matching:
    """All lanes' objective. Networks and directions are on the device; labels [D, k], None: they are sought too."""

    def __init__(self, estimates: list[Estimate], labels: Tensor | None, arithmetic: Arithmetic, ctx: Context) -> None:
        self.labels = None if labels is None else labels.to(ctx.device)
        self.classes = estimates[0].at.architecture.num_classes
        self.way = WAYS[arithmetic]
        self.directions = [{n: g.to(ctx.device) for n, g in e.direction.items()} for e in estimates]
        self.trusts = [e.trust and {n: t.to(ctx.device) for n, t in e.trust.items()} for e in estimates]
        self.commons = [
            e.common and e.common.to(next(iter(d.values()))) for e, d in zip(estimates, self.directions, strict=True)
        ]
        self.points = [
            [self._point(e.at.network(which).to(ctx.device)) for which in range(e.at.count)] for e in estimates
        ]

    def _point(self, network: nn.Module) -> Point:
        weights = {name: w.detach() for name, w in network.named_parameters()}
        return Point(network, weights, self.way.matcher(network, weights, LANES_AT_ONCE))

    def step(self, lanes: Starts, tv: float) -> tuple[Tensor, ...]:
        """Gradient of the objective like the images, 1 - cos, [L], and the gradient in the logits, if there are any."""
        found = [torch.empty_like(lanes.search.x), lanes.search.x.new_empty(len(lanes.place))]
        if lanes.classes is not None:
            found.append(torch.empty_like(lanes.classes.x))
        for point, rows, labels, aim, trust, common in self._parts(lanes):
            parts = point.match(lanes.search.x[rows], labels, aim, tv, trust, common)
            for whole, part in zip(found, parts, strict=True):
                whole[rows] = part
        return tuple(found)

    def _parts(
        self, lanes: Starts
    ) -> Iterator[tuple[Point, Tensor, Tensor, dict[str, Tensor], dict[str, Tensor] | None, Common | None]]:
        """Rows that share the weights at which gradients are taken, and what each is held against and how."""
        for which, points in enumerate(self.points):
            rows, deletions = lanes.of(which)
            for deletion, point in enumerate(points):
                mine, theirs = rows, deletions
                if len(points) > 1:
                    mine, theirs = rows[deletions == deletion], deletions[deletions == deletion]
                if len(mine):
                    aim = {name: g[theirs] for name, g in self.directions[which].items()}
                    trust = self.trusts[which]
                    worth = None if trust is None else {name: t[theirs] for name, t in trust.items()}
                    common = self.commons[which]
                    left = None if common is None else common.rows(theirs)
                    yield point, mine, self._labels(lanes, mine, theirs), aim, worth, left

    def _labels(self, lanes: Starts, rows: Tensor, deletions: Tensor) -> Tensor:
        """Of these lanes: classes [L, k], or logits [L, k, K]."""
        if lanes.classes is not None:
            return lanes.classes.x[rows]
        assert self.labels is not None
        return self.labels[deletions]

    def mismatch(self, lanes: Starts) -> Tensor:
        """1 - cos, [L]."""
        loss = lanes.search.x.new_empty(len(lanes.place))
        for point, rows, labels, aim, trust, common in self._parts(lanes):
            x = lanes.search.x[rows]
            loss[rows] = self.way.mismatch(point.network, point.weights, x, labels, aim, LANES_AT_ONCE, trust, common)
        return loss


def settled(logits: Tensor) -> Tensor:
    """Logits of the likeliest classes alone: their softmax is 0 and 1, and has no slope that could move them."""
    return 1e4 * one_hot(logits.argmax(2), logits.shape[2]).to(logits.dtype)


class Found(NamedTuple):
    """Images [D, k, C, H, W], their labels [D, k], 1 - cos [D] and the number of the explanation [D]."""

    images: Tensor
    labels: Tensor
    loss: Tensor
    explanation: Tensor


def best_of(lanes: Starts, loss: Tensor) -> Tensor:
    """The row of each deletion with the lowest matching loss: all that an attacker can choose by."""
    return torch.stack([
        rows[loss[rows].argmin()]
        for rows in ((lanes.place[:, 0] == d).nonzero().flatten() for d in lanes.place[:, 0].unique())
    ])  # fmt: skip


def _likelier(lanes: Starts, loss: Tensor, deletions: int) -> int:
    """The explanation under which the first `deletions` match better: the mean of each one's best start."""
    means = []
    for estimate in range(int(lanes.place[:, 1].max()) + 1):
        rows, whose = lanes.of(estimate)
        best = torch.full((int(whose.max()) + 1,), torch.inf, device=loss.device)
        means.append(best.scatter_reduce(0, whose, loss[rows], "amin")[:deletions].mean())
    return int(torch.stack(means).argmin())


def search(
    matching: Matching,
    deletions: int,
    schedule: Schedule,
    total: int,
    restarts: int,
    shape: tuple[int, ...],
    ctx: Context,
) -> Found:
    """Run it to its end, or on from the checkpoint.

    Args:
        deletions: how many of the directions are of deletions; what comes after them are controls.
        shape: of one start, (k, C, H, W).

    Returns:
        of each deletion, and of each control, the lane that matches best.
    """
    estimates = len(matching.points)
    lanes, done = _start(matching, restarts, schedule, shape, ctx), 0
    if (saved := ctx.resume()) is not None:
        done, state = saved
        lanes = Starts.of_state({name: t.to(ctx.device) for name, t in state.items()})
    for step in range(done, total):
        if step == max(1, int(SCOUTING * total)) and estimates > 1:
            lanes = lanes.keep(lanes.of(_likelier(lanes, matching.mismatch(lanes), deletions))[0])
        lanes.search.x.clamp_(0, 1)
        gradient, loss, *theirs = matching.step(lanes, schedule.tv_at(step, total))
        lanes.search.step(step + 1, gradient.sign(), schedule.lr_at(step, total), schedule.weight_decay)
        if lanes.classes is not None:
            lanes.classes.step(step + 1, theirs[0], LABEL_LR, 0)
            if step + 1 == max(1, int(SETTLING * total)):
                lanes.classes = AdamW.at(settled(lanes.classes.x))
        if step % 10 == 0 or step + 1 == total:
            ctx.progress(step + 1, total, matching_loss=loss.mean().item())
        else:
            ctx.progress(step + 1, total)
        if ctx.due():
            ctx.save(step + 1, lanes.state())
    if schedule.clamp_last:
        lanes.search.x.clamp_(0, 1)
    loss = matching.mismatch(lanes)
    best = best_of(lanes, loss)
    chosen = lanes.keep(best)
    labels = matching.labels if chosen.classes is None else chosen.classes.x.argmax(2)
    assert labels is not None
    return Found(chosen.search.x.cpu(), labels.cpu(), loss[best].cpu(), chosen.place[:, 1].cpu())


def _start(matching: Matching, restarts: int, schedule: Schedule, shape: tuple[int, ...], ctx: Context) -> Starts:
    """The starts; those of a deletion are the same under every explanation. Sought labels start undecided."""
    deletions, estimates = len(next(iter(matching.directions[0].values()))), len(matching.points)
    starts = [
        [schedule.first_image(shape, ctx.generator(f"start {d} {r}")) for r in range(restarts)]
        for d in range(deletions)
    ]
    place = [(d, e, r) for d in range(deletions) for e in range(estimates) for r in range(restarts)]
    x = torch.stack([starts[d][r] for d, _, r in place])
    undecided = x.new_zeros(len(place), shape[0], matching.classes).to(ctx.device)
    classes = AdamW.at(undecided) if matching.labels is None else None
    return Starts(torch.tensor(place, device=ctx.device), AdamW.at(x.to(ctx.device)), classes)
