"""Probes as published: in full pixels, one after another, each from noise until the model is all but certain."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from shared.ml.context import Context
from shared.ml.oracles import Oracle
from shared.probes import Search

DIFFERENCE = 1e-4  # h of the central differences
FAST, SLOW, SURE = 0.1, 0.02, 0.9  # Adam's rate, and what it falls to once a try has ended above this confidence
BETAS = 0.9, 0.999


@dataclass
class Probe:
    """Where one search stands: image [D], Adam's moments and steps of each value, the best so far."""

    x: Tensor
    first: Tensor
    second: Tensor
    steps: Tensor
    best: Tensor
    confidence: Tensor  # float64 []
    rate: Tensor  # float32 []

    @classmethod
    def start(cls, x: Tensor) -> Probe:
        zero = torch.zeros_like(x)
        sure = torch.tensor(-1, dtype=torch.float64)
        return cls(x, zero, zero.clone(), zero.clone(), x.clone(), sure, torch.tensor(FAST))

    def again(self) -> None:
        """The next try: from the best image, with Adam as new."""
        self.x = self.best.clone()
        for held in (self.first, self.second, self.steps):
            held.zero_()
        if self.confidence > SURE:
            self.rate = torch.tensor(SLOW)

    def ascend(self, picked: Tensor, slope: Tensor) -> None:
        """A step of Adam upward on the values `picked` [n], each with a count of its own.

        By hand, as the official code has it: torch's Adam counts the steps of a whole tensor, not of each value.
        """
        first, second, (b1, b2) = self.first, self.second, BETAS
        self.steps[picked] += 1
        first[picked] = b1 * first[picked] + (1 - b1) * slope
        second[picked] = b2 * second[picked] + (1 - b2) * slope.square()
        mean = first[picked] / (1 - b1 ** self.steps[picked])
        size = second[picked] / (1 - b2 ** self.steps[picked])
        self.x[picked] = (self.x[picked] + self.rate * mean / (size.sqrt() + 1e-8)).clamp(0, 1)


def find_published_probes(
    oracle: Oracle, classes: int, shape: tuple[int, int, int], search: Search, ctx: Context
) -> tuple[Tensor, Tensor]:
    """Raise the model's confidence in each probe's class from clipped noise, with queries only.

    Zeroth order: each round asks about x +- 1e-4 in min(directions, D) random values, steps with Adam and asks how
    sure the model is now. Up to `tries` of `rounds` rounds, each from the best image so far; it ends at
    `confidence`. Of a class's `candidates` the first `per_class` that got there are kept. The official code goes on
    until so many did, without an end; here the surest others stand in.

    Source: Hu et al. 2024, arXiv 2404.03233, and its official code.

    Returns:
        probes [classes * per_class, C, H, W] in [0, 1] by class, and the confidence float64 that each reached.
    """
    assert search.candidates
    assert search.tries
    assert search.rounds
    size, total = torch.Size(shape).numel(), classes * search.candidates
    per, asked = search.tries * search.rounds, min(search.directions, size)
    most = search.most_queries(classes, size)
    images, confidence = torch.zeros(total, size), torch.full((total,), -1.0, dtype=torch.float64)
    begun = 0
    state: dict[str, Tensor] = {}
    if (found := ctx.resume()) is not None:
        begun, state = found
        images, confidence = state.pop("images"), state.pop("confidences")
        oracle.queries = int(state.pop("queries"))
    for place in range(begun, total * per):
        which, step = divmod(place, per)
        if step == 0:
            noise = torch.randn(size, generator=ctx.generator(f"probe {which}")).clamp(0, 1)
            probe = Probe.start(noise)
        elif place == begun:
            probe = Probe(**state)
        if step and probe.confidence >= search.confidence:
            continue
        if step and step % search.rounds == 0:
            probe.again()
        picked = torch.randperm(size, generator=ctx.generator(f"probe {which} step {step}"))[:asked]
        _climb(oracle, probe, which // search.candidates, picked, shape)
        images[which], confidence[which] = probe.best, probe.confidence
        ctx.progress(min(place * (2 * asked + 1), most), most, confidence=probe.confidence.item())
        if ctx.due():
            held = {"images": images, "confidences": confidence, "queries": torch.tensor(oracle.queries)}
            ctx.save(place + 1, held | vars(probe))
    ctx.progress(most, most)
    kept = _kept(confidence.view(classes, -1), search)
    rows = (kept + search.candidates * torch.arange(classes).unsqueeze(1)).flatten()
    return images[rows].view(-1, *shape), confidence[rows]


def _climb(oracle: Oracle, probe: Probe, label: int, picked: Tensor, shape: tuple[int, int, int]) -> None:
    """One round. Images that are asked about may lie 1e-4 outside [0, 1], as in the official code."""
    moved = torch.zeros(len(picked), len(probe.x))
    moved[torch.arange(len(picked)), picked] = DIFFERENCE
    both = torch.cat([probe.x + moved, probe.x - moved]).view(-1, *shape)
    up, down = oracle(both)[:, label].clamp_min(1e-30).log().split(len(picked))
    probe.ascend(picked, ((up - down) / (2 * DIFFERENCE)).float())
    sure = oracle(probe.x.view(1, *shape))[0, label]
    if sure > probe.confidence:
        probe.best, probe.confidence = probe.x.clone(), sure


def _kept(confidence: Tensor, search: Search) -> Tensor:
    """Places [classes, per_class] of the candidates that are kept: the first that got there, then the surest."""
    there = confidence >= search.confidence
    order = torch.where(there, 2.0, confidence).argsort(dim=1, descending=True, stable=True)
    return order[:, : search.per_class]
