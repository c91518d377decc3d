"""The search for images that explain a weight change, from several starts and under several explanations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shared.ml.attacks import _matching, _plain
from shared.ml.attacks._estimate import Estimate
from shared.ml.attacks._schedules import AdamW, Arithmetic, Schedule
from shared.ml.context import Context

WAYS = {"plain": _plain, "batched": _matching}
LANES_AT_ONCE = 32  # bounds memory; on one CPU core more lanes at once are no quicker
SCOUTING = 0.15  # share of the steps after which all go on with one explanation only


@dataclass
class Starts:
    """Lanes: one start of one deletion under one explanation each, as rows (deletion, estimate, start) of `place`."""

    place: Tensor
    search: AdamW

    def keep(self, rows: Tensor) -> Starts:
        return Starts(self.place[rows], AdamW(**{name: t[rows] for name, t in self.search.state().items()}))

    def of(self, estimate: int) -> tuple[Tensor, Tensor]:
        """Rows of that explanation, and their deletions."""
        rows = (self.place[:, 1] == estimate).nonzero().flatten()
        return rows, self.place[rows, 0]


class Matching:
    """All lanes' objective. Networks and directions are on the device."""

    def __init__(self, estimates: list[Estimate], labels: Tensor, arithmetic: Arithmetic, ctx: Context) -> None:
        self.labels = labels.to(ctx.device)
        self.way = WAYS[arithmetic]
        self.networks: list[tuple[nn.Module, dict[str, Tensor]]] = []
        for estimate in estimates:
            network = estimate.at.network().to(ctx.device)
            self.networks.append((network, {name: w.detach() for name, w in network.named_parameters()}))
        self.directions = [{n: g.to(ctx.device) for n, g in e.direction.items()} for e in estimates]
        self.match = [self.way.matcher(network, weights, LANES_AT_ONCE) for network, weights in self.networks]

    def step(self, lanes: Starts, tv: float) -> tuple[Tensor, Tensor]:
        """Gradient of the objective like the images, and 1 - cos, [L]."""
        gradient = torch.empty_like(lanes.search.x)
        loss = gradient.new_empty(len(lanes.place))
        for which, match in enumerate(self.match):
            rows, deletions = lanes.of(which)
            if len(rows):
                aim = {name: g[deletions] for name, g in self.directions[which].items()}
                gradient[rows], loss[rows] = match(lanes.search.x[rows], self.labels[deletions], aim, tv)
        return gradient, loss

    def mismatch(self, lanes: Starts) -> Tensor:
        """1 - cos, [L]."""
        loss = lanes.search.x.new_empty(len(lanes.place))
        for which, (network, weights) in enumerate(self.networks):
            rows, deletions = lanes.of(which)
            if len(rows):
                aim = {name: g[deletions] for name, g in self.directions[which].items()}
                x = lanes.search.x[rows]
                loss[rows] = self.way.mismatch(network, weights, x, self.labels[deletions], aim, LANES_AT_ONCE)
        return loss


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
) -> tuple[Tensor, Tensor, Tensor]:
    """Run it to its end, or on from the checkpoint.

    Args:
        deletions: how many of the labels are deletions; what comes after them are controls.
        shape: of one start, (k, C, H, W).

    Returns:
        per deletion the images [D, *shape], the matching loss [D] and the number of the explanation [D] of the
        lane that matches best.
    """
    estimates = len(matching.match)
    lanes, done = _start(len(matching.labels), estimates, restarts, schedule, shape, ctx), 0
    if (found := ctx.resume()) is not None:
        done, saved = found
        place = saved.pop("place")
        lanes = Starts(place.to(ctx.device), AdamW(**{name: t.to(ctx.device) for name, t in saved.items()}))
    for step in range(done, total):
        if step == max(1, int(SCOUTING * total)) and estimates > 1:
            lanes = lanes.keep(lanes.of(_likelier(lanes, matching.mismatch(lanes), deletions))[0])
        lanes.search.x.clamp_(0, 1)
        gradient, loss = matching.step(lanes, schedule.tv_at(step, total))
        lanes.search.step(step + 1, gradient.sign(), schedule.lr_at(step, total), schedule.weight_decay)
        if step % 10 == 0 or step + 1 == total:
            ctx.progress(step + 1, total, matching_loss=loss.mean().item())
        else:
            ctx.progress(step + 1, total)
        if ctx.due():
            ctx.save(step + 1, lanes.search.state() | {"place": lanes.place})
    if schedule.clamp_last:
        lanes.search.x.clamp_(0, 1)
    loss = matching.mismatch(lanes)
    best = best_of(lanes, loss)
    return lanes.search.x[best].cpu(), loss[best].cpu(), lanes.place[best, 1].cpu()


def _start(
    deletions: int, estimates: int, restarts: int, schedule: Schedule, shape: tuple[int, ...], ctx: Context
) -> Starts:
    """The starts; those of a deletion are the same under every explanation."""
    starts = [
        [schedule.first_image(shape, ctx.generator(f"start {d} {r}")) for r in range(restarts)]
        for d in range(deletions)
    ]
    place = [(d, e, r) for d in range(deletions) for e in range(estimates) for r in range(restarts)]
    x = torch.stack([starts[d][r] for d, _, r in place])
    return Starts(torch.tensor(place, device=ctx.device), AdamW.at(x.to(ctx.device)))
