"""Probes as published: full pixels, one after another, from noise until the model is nearly
certain."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from shared.ml.context import Context
from shared.ml.oracles import Oracle
from shared.probes import ProbeSearch

DIFFERENCE = 1e-4  # h of the central differences
# Adam's learning rate, and the lower one once a try has ended above this confidence
FAST_LR, SLOW_LR, SLOW_FROM_CONFIDENCE = 0.1, 0.02, 0.9
BETAS = 0.9, 0.999


@dataclass
class ProbeState:
    """State of one search: image [D], Adam's moments and step counts per value, and the best so
    far."""

    x: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor
    steps: Tensor
    best: Tensor
    confidence: Tensor  # float64 []
    lr: Tensor  # float32 []

    @classmethod
    def create(cls, x: Tensor) -> ProbeState:
        zero = torch.zeros_like(x)
        confidence = torch.tensor(-1, dtype=torch.float64)
        return cls(
            x, zero, zero.clone(), zero.clone(), x.clone(), confidence, torch.tensor(FAST_LR)
        )

    def restart(self) -> None:
        """Start the next try from the best image, with a fresh Adam state."""
        self.x = self.best.clone()
        for moment in (self.exp_avg, self.exp_avg_sq, self.steps):
            moment.zero_()
        if self.confidence > SLOW_FROM_CONFIDENCE:
            self.lr = torch.tensor(SLOW_LR)

    def ascend(self, coordinates: Tensor, slope: Tensor) -> None:
        """One ascent step of Adam on the values `coordinates` [n], each with its own step count.

        By hand, as in the official code: torch's Adam counts steps per tensor, not per value.
        """
        exp_avg, exp_avg_sq, (b1, b2) = self.exp_avg, self.exp_avg_sq, BETAS
        self.steps[coordinates] += 1
        exp_avg[coordinates] = b1 * exp_avg[coordinates] + (1 - b1) * slope
        exp_avg_sq[coordinates] = b2 * exp_avg_sq[coordinates] + (1 - b2) * slope.square()
        mean = exp_avg[coordinates] / (1 - b1 ** self.steps[coordinates])
        size = exp_avg_sq[coordinates] / (1 - b2 ** self.steps[coordinates])
        self.x[coordinates] = (self.x[coordinates] + self.lr * mean / (size.sqrt() + 1e-8)).clamp(
            0, 1
        )


def find_published_probes(
    oracle: Oracle, classes: int, shape: tuple[int, int, int], search: ProbeSearch, ctx: Context
) -> tuple[Tensor, Tensor]:
    """Raise the model's confidence in each probe's class from clipped noise, with queries only.

    Zeroth order: each round queries x +- 1e-4 in min(directions, D) random values, takes a step of
    Adam and queries the new confidence. There are up to `tries` tries of `rounds` rounds, each from
    the best image so far; the search ends at `confidence`. Of a class's `candidates` the first
    `per_class` that reach it are kept. The official code continues until enough do, without limit;
    here the most confident others fill up.

    Source: Hu et al. 2024, arXiv 2404.03233, and its official code.

    Returns:
        probes [classes * per_class, C, H, W] in [0, 1] by class, and the confidence float64 that
            each reached.
    """
    assert search.candidates
    assert search.tries
    assert search.rounds
    size, total = torch.Size(shape).numel(), classes * search.candidates
    steps_per_candidate, num_directions = search.tries * search.rounds, min(search.directions, size)
    max_queries = search.compute_query_bound(classes, size)
    images, confidence = torch.zeros(total, size), torch.full((total,), -1.0, dtype=torch.float64)
    first_step = 0
    state: dict[str, Tensor] = {}
    if (checkpoint := ctx.load_checkpoint()) is not None:
        first_step, state = checkpoint
        images, confidence = state.pop("images"), state.pop("confidences")
        oracle.query_count = int(state.pop("queries"))
    for total_step in range(first_step, total * steps_per_candidate):
        candidate, step = divmod(total_step, steps_per_candidate)
        if step == 0:
            noise = torch.randn(size, generator=ctx.make_generator(f"probe {candidate}")).clamp(
                0, 1
            )
            probe = ProbeState.create(noise)
        elif total_step == first_step:
            probe = ProbeState(**state)
        if step and probe.confidence >= search.confidence:
            continue
        if step and step % search.rounds == 0:
            probe.restart()
        coordinates = torch.randperm(
            size, generator=ctx.make_generator(f"probe {candidate} step {step}")
        )[:num_directions]
        _run_round(oracle, probe, candidate // search.candidates, coordinates, shape)
        images[candidate], confidence[candidate] = probe.best, probe.confidence
        ctx.report_progress(
            min(total_step * (2 * num_directions + 1), max_queries),
            max_queries,
            confidence=probe.confidence.item(),
        )
        if ctx.is_checkpoint_due():
            tensors = {
                "images": images,
                "confidences": confidence,
                "queries": torch.tensor(oracle.query_count),
            }
            ctx.save_checkpoint(total_step + 1, tensors | vars(probe))
    ctx.report_progress(max_queries, max_queries)
    kept = _select_probes(confidence.view(classes, -1), search)
    rows = (kept + search.candidates * torch.arange(classes).unsqueeze(1)).flatten()
    return images[rows].view(-1, *shape), confidence[rows]


def _run_round(
    oracle: Oracle, probe: ProbeState, label: int, coordinates: Tensor, shape: tuple[int, int, int]
) -> None:
    """One round. Queried images may lie 1e-4 outside [0, 1], as in the official code."""
    offsets = torch.zeros(len(coordinates), len(probe.x))
    offsets[torch.arange(len(coordinates)), coordinates] = DIFFERENCE
    both = torch.cat([probe.x + offsets, probe.x - offsets]).view(-1, *shape)
    up, down = oracle(both)[:, label].clamp_min(1e-30).log().split(len(coordinates))
    probe.ascend(coordinates, ((up - down) / (2 * DIFFERENCE)).float())
    confidence = oracle(probe.x.view(1, *shape))[0, label]
    if confidence > probe.confidence:
        probe.best, probe.confidence = probe.x.clone(), confidence


def _select_probes(confidence: Tensor, search: ProbeSearch) -> Tensor:
    """Indices [classes, per_class] of the candidates to keep: the first that got there, then the
    most confident."""
    reached = confidence >= search.confidence
    order = torch.where(reached, 2.0, confidence).argsort(dim=1, descending=True, stable=True)
    return order[:, : search.per_class]
