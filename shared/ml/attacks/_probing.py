"""Probes: images that a model assigns to a class with some confidence, found by queries alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate, one_hot

from shared.ml.attacks._adam import AdamW
from shared.ml.context import Context
from shared.ml.oracles import Oracle

DIFFERENCE, LEARNING_RATE = 1e-2, 0.1  # of the central differences, and of Adam, in pixel units
BETAS = 0.9, 0.99


@dataclass
class SearchState:
    """State of the search: coarse images [n, C, r, r] with Adam's moments, and the best so far with
    its confidence."""

    adam: AdamW
    best: Tensor
    confidence: Tensor

    @classmethod
    def create(cls, x: Tensor) -> SearchState:
        return cls(AdamW.create(x), x.clone(), torch.zeros(len(x), dtype=torch.float64))

    @property
    def x(self) -> Tensor:
        return self.adam.x

    def state_dict(self) -> dict[str, Tensor]:
        return {**self.adam.state_dict(), "best": self.best, "confidence": self.confidence}

    @classmethod
    def from_state_dict(cls, state_dict: dict[str, Tensor]) -> SearchState:
        """From the result of `state_dict`."""
        return cls(AdamW.from_state_dict(state_dict), state_dict["best"], state_dict["confidence"])


def find_probes(
    oracle: Oracle, classes: Tensor, shape: tuple[int, int, int], *,
    resolution: int, directions: int, confidence: float, max_queries: int, ctx: Context,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Raise the model's confidence in each probe's class from noise, with queries only.

    The paper's method (zeroth order: central differences, Adam; Hu et al. 2024) on full pixels
    takes millions of queries. Ours optimises coarse images, at most `resolution` pixels high and
    wide, which are enlarged for each query: few coordinates suffice to estimate the slope, and
    models respond to coarse shapes. It stops at `confidence`: higher confidence reacts less to a
    change of the weights.

    Args:
        classes: int64 [n], the class that each probe is for.
        directions: coordinates per estimate of a slope, two queries each.

    Returns:
        probes [n, C, H, W] in [0, 1], and the confidence float64 [n] that each reached, after at
            least `n` and at most `max_queries` queries.
    """
    n, (channels, height, width) = len(classes), shape
    coarse_shape = min(resolution, height), min(resolution, width)
    dimensions = channels * math.prod(coarse_shape)
    num_directions = min(directions, dimensions)
    start = torch.rand(n, channels, *coarse_shape, generator=ctx.make_generator("probes"))
    search, step = SearchState.create(start), 0
    if (checkpoint := ctx.load_checkpoint()) is not None:
        step, state = checkpoint
        oracle.query_count = int(state.pop("queries"))
        search = SearchState.from_state_dict(state)

    def measure_confidence(coarse: Tensor, rows: Tensor) -> Tensor:
        images = interpolate(
            coarse, size=(height, width), mode="bilinear", align_corners=False
        ).clamp(0, 1)
        return oracle(images).gather(1, classes[rows].unsqueeze(1)).squeeze(1)

    unfinished = (search.confidence < confidence).nonzero().flatten()
    while True:
        reached = measure_confidence(search.x[unfinished], unfinished)
        improved = reached > search.confidence[unfinished]
        better = unfinished[improved]
        search.best[better], search.confidence[better] = search.x[better], reached[improved]
        unfinished = (search.confidence < confidence).nonzero().flatten()
        ctx.report_progress(
            min(oracle.query_count, max_queries),
            max_queries,
            confidence=search.confidence.mean().item(),
        )
        if (
            not len(unfinished)
            or oracle.query_count + (2 * num_directions + 1) * len(unfinished) > max_queries
        ):
            break
        step += 1
        rng = ctx.make_generator(f"probes step {step}")
        coordinates = torch.stack(
            [torch.randperm(dimensions, generator=rng)[:num_directions] for _ in unfinished]
        )
        offsets = DIFFERENCE * one_hot(coordinates, dimensions).float()  # [left, asked, dimensions]
        centers, rows = (
            search.x[unfinished].flatten(1).unsqueeze(1),
            unfinished.repeat_interleave(num_directions),
        )
        up, down = (
            measure_confidence((centers + sign * offsets).view(-1, *search.x.shape[1:]), rows)
            .clamp_min(1e-30)
            .log()
            for sign in (1, -1)
        )
        slope = torch.zeros(len(unfinished), dimensions).scatter_(
            1,
            coordinates,
            ((up - down) / (2 * DIFFERENCE)).float().view(len(unfinished), num_directions),
        )
        _ascend(search, unfinished, slope.view(-1, *search.x.shape[1:]), step)
        if ctx.is_checkpoint_due():
            ctx.save_checkpoint(
                step, search.state_dict() | {"queries": torch.tensor(oracle.query_count)}
            )
    probes = interpolate(
        search.best, size=(height, width), mode="bilinear", align_corners=False
    ).clamp(0, 1)
    return probes, search.confidence


def _ascend(search: SearchState, rows: Tensor, slope: Tensor, step: int) -> None:
    """One ascent step of Adam for the probes `rows`. Finished ones may keep moving: only their best
    counts."""
    gradient = torch.zeros_like(search.x)
    gradient[rows] = -slope
    search.adam.step(step, gradient, LEARNING_RATE, weight_decay=0, betas=BETAS)
    search.x.clamp_(0, 1)
