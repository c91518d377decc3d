"""Schedules of the reconstruction search: the paper's and ours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Arithmetic = Literal["plain", "batched"]


@dataclass(frozen=True)
class SearchSchedule:
    """Numbers of a search with AdamW on the sign of the gradient; pixels are in [0, 1].

    `lr` per step in pixel units; `tv` the weight of total variation at the first and the last step,
    moved between them geometrically; `init` the first image: `normal` N(0, 1), `dark` uniform in
    [0, 0.1]. `arithmetic` is how a step is computed: `plain` each trial by itself, `batched` all in
    shared passes.
    """

    iterations: int
    restarts: int
    lr: float
    decay: Literal["cosine", "halves"]
    tv: tuple[float, float]
    weight_decay: float
    init: Literal["normal", "dark"]
    clamp_last: bool
    arithmetic: Arithmetic

    def get_lr(self, step: int, total: int) -> float:
        """Learning rate of step `step`, counted from 0, of `total`."""
        if self.decay == "cosine":
            return self.lr * (1 + math.cos(math.pi * step / total)) / 2
        return self.lr * 0.5 ** sum(step >= int(total / part) for part in (2.667, 1.6, 1.142))

    def get_tv(self, step: int, total: int) -> float:
        """Weight of total variation at step `step`."""
        first, last = self.tv
        return first * (last / first) ** (step / max(1, total - 1))

    def draw_init(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """The initial images of one restart of one deletion, drawn on the CPU."""
        if self.init == "normal":
            return torch.randn(shape, generator=generator)
        return 0.1 * torch.rand(shape, generator=generator)


SCHEDULES = {
    # Official code of arXiv 2404.03233: clamped before each step and not after the last.
    "paper": SearchSchedule(
        iterations=10_000,
        restarts=5,
        lr=0.04,
        decay="halves",
        tv=(1e-2, 1e-2),
        weight_decay=0.01,
        init="normal",
        clamp_last=False,
        arithmetic="plain",
    ),
    "default": SearchSchedule(
        iterations=1000,
        restarts=1,
        lr=0.1,
        decay="cosine",
        tv=(0.3, 0.03),
        weight_decay=0.0,
        init="dark",
        clamp_last=True,
        arithmetic="batched",
    ),
}
