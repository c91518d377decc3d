"""Probes: images of which a model is fairly sure that they belong to a class, found by asking it only."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate, one_hot

from shared.ml.attacks._adam import AdamW
from shared.ml.context import Context
from shared.ml.oracles import Oracle

STEP, RATE = 1e-2, 0.1  # of the central differences, and of Adam, in pixel units
BETAS = 0.9, 0.99


@dataclass
class Search:
    """Where the search stands: coarse images [n, C, r, r] in Adam's hands, the best so far with its confidence."""

    adam: AdamW
    best: Tensor
    confidence: Tensor

    @classmethod
    def start(cls, x: Tensor) -> Search:
        return cls(AdamW.at(x, BETAS), x.clone(), torch.zeros(len(x), dtype=torch.float64))

    @property
    def x(self) -> Tensor:
        return self.adam.x

    def state(self) -> dict[str, Tensor]:
        return {**self.adam.state(), "best": self.best, "confidence": self.confidence}

    @classmethod
    def of_state(cls, state: dict[str, Tensor]) -> Search:
        """From what `state` gave."""
        return cls(AdamW.of_state(state, BETAS), state["best"], state["confidence"])


def find_probes(
    oracle: Oracle, classes: Tensor, shape: tuple[int, int, int], *,
    resolution: int, directions: int, confidence: float, max_queries: int, ctx: Context,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Raise the model's confidence in each probe's class from noise, with queries only.

    The paper's way (zeroth order: central differences, Adam; Hu et al. 2024) in full pixels takes millions of
    queries. Ours seeks coarse images, `resolution` pixels high and wide or as the image is, if that is less, and
    enlarged before they are asked about: few coordinates make an estimate of the slope, and a model answers to coarse
    shapes. It stops at `confidence`: a surer answer moves less when the weights do.

    Args:
        classes: int64 [n], the class that each probe is for.
        directions: coordinates that one estimate of a slope asks about, two queries each.

    Returns:
        probes [n, C, H, W] in [0, 1], and the confidence float64 [n] that each reached. Never more than
        `max_queries` queries, `n` at least.
    """
    n, (channels, height, width) = len(classes), shape
    coarse_size = min(resolution, height), min(resolution, width)
    dimensions = channels * math.prod(coarse_size)
    asked = min(directions, dimensions)
    start = torch.rand(n, channels, *coarse_size, generator=ctx.generator("probes"))
    search, step = Search.start(start), 0
    if (found := ctx.resume()) is not None:
        step, state = found
        oracle.queries = int(state.pop("queries"))
        search = Search.of_state(state)

    def confidence_of(coarse: Tensor, rows: Tensor) -> Tensor:
        images = interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False).clamp(0, 1)
        return oracle(images).gather(1, classes[rows].unsqueeze(1)).squeeze(1)

    left = (search.confidence < confidence).nonzero().flatten()
    while True:
        sure = confidence_of(search.x[left], left)
        rose = sure > search.confidence[left]
        better = left[rose]
        search.best[better], search.confidence[better] = search.x[better], sure[rose]
        left = (search.confidence < confidence).nonzero().flatten()
        ctx.progress(min(oracle.queries, max_queries), max_queries, confidence=search.confidence.mean().item())
        if not len(left) or oracle.queries + (2 * asked + 1) * len(left) > max_queries:
            break
        step += 1
        rng = ctx.generator(f"probes step {step}")
        picked = torch.stack([torch.randperm(dimensions, generator=rng)[:asked] for _ in left])
        moved = STEP * one_hot(picked, dimensions).float()  # [left, asked, dimensions]
        at, rows = search.x[left].flatten(1).unsqueeze(1), left.repeat_interleave(asked)
        up, down = (
            confidence_of((at + sign * moved).view(-1, *search.x.shape[1:]), rows).clamp_min(1e-30).log()
            for sign in (1, -1)
        )
        slope = torch.zeros(len(left), dimensions).scatter_(
            1, picked, ((up - down) / (2 * STEP)).float().view(len(left), asked)
        )
        _ascend(search, left, slope.view(-1, *search.x.shape[1:]), step)
        if ctx.due():
            ctx.save(step, search.state() | {"queries": torch.tensor(oracle.queries)})
    probes = interpolate(search.best, size=(height, width), mode="bilinear", align_corners=False).clamp(0, 1)
    return probes, search.confidence


def _ascend(search: Search, rows: Tensor, slope: Tensor, step: int) -> None:
    """One step of Adam upward, for the probes `rows`. Those that are done drift on: only their best is looked at."""
    down = torch.zeros_like(search.x)
    down[rows] = -slope
    search.adam.step(step, down, RATE, weight_decay=0)
    search.x.clamp_(0, 1)
