"""How a network is trained, as data: `retrain` repeats what `train` did."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from shared.plugins import Params


class Recipe(Params):
    """SGD. The defaults are the paper's for the training set: they move the base model a little."""

    epochs: int = Field(1, ge=1, le=1000, description="passes over the data")
    lr: float = Field(1e-3, gt=0, le=10, description="learning rate of the first step")
    batch_size: int = Field(128, ge=1, le=65536, description="samples per step")
    momentum: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the previous step that is added",
    )
    weight_decay: float = Field(0.0, ge=0, le=1, description="L2 penalty added to the gradient")
    schedule: Literal["constant", "one_cycle"] = Field(
        "constant",
        description="one_cycle: lr rises from 0 in the first quarter of the steps, then falls to 0",
    )
    batch_norm: Literal["frozen", "trained"] = Field(
        "frozen",
        description=(
            "frozen: uses the stored statistics and does not update them (eval mode, as in the "
            "paper); trained: uses the statistics of each batch"
        ),
    )

    noise_multiplier: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="DP-SGD: noise, as a multiple of max_grad_norm; 0: plain SGD",
    )
    max_grad_norm: float = Field(
        1.0,
        gt=0,
        le=1e6,
        description="DP-SGD: maximum norm of one sample's gradient; larger gradients are clipped",
    )

    @property
    def is_private(self) -> bool:
        """Whether this is DP-SGD."""
        return self.noise_multiplier > 0

    def count_steps(self, n: int) -> int:
        """How many steps training on `n` samples takes."""
        return self.epochs * math.ceil(n / self.batch_size)

    def sum_steps(self, n: int) -> float:
        """How far training on `n` samples follows a constant gradient, as a multiple of it: the sum
        of all learning rates, and what momentum adds."""
        total = self.count_steps(n)
        return sum(self.get_lr(step, total) for step in range(total)) / (1 - self.momentum)

    def get_lr(self, step: int, total: int) -> float:
        """The learning rate of step `step`, counted from 0."""
        if self.schedule == "constant":
            return self.lr
        done = (step + 1) / total
        return self.lr * min(done / 0.25, (1 - done) / 0.75 + 1 / total)
