"""Steps of torch's AdamW for searches that run many trials in one tensor."""

from __future__ import annotations

import torch
from torch import Tensor

BETAS = 0.9, 0.999  # torch's own


class AdamW:
    """torch's AdamW on one tensor of trials, of which a search may keep some rows.

    The caller counts the steps, and keeps its count when trials restart during a search.
    """

    def __init__(self, x: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor) -> None:
        self.x = x
        # one tensor after another, as in the preset's source: several together (foreach) may differ
        # in the last bit
        self._optimiser = torch.optim.AdamW([x], foreach=False)
        self._moments = {"step": torch.tensor(0.0), "exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq}
        self._optimiser.state[x] = self._moments

    @classmethod
    def create(cls, x: Tensor) -> AdamW:
        """With moments of zero."""
        return cls(x, torch.zeros_like(x), torch.zeros_like(x))

    @classmethod
    def from_state_dict(cls, state_dict: dict[str, Tensor]) -> AdamW:
        """From the result of `state_dict`, or some rows of it."""
        return cls(state_dict["x"], state_dict["exp_avg"], state_dict["exp_avg_sq"])

    def step(
        self,
        number: int,
        gradient: Tensor,
        lr: float,
        weight_decay: float,
        betas: tuple[float, float] = BETAS,
    ) -> None:
        """Step `number`, counted from 1. `betas`: the decay of the two moments."""
        group = self._optimiser.param_groups[0]
        group["lr"], group["weight_decay"], group["betas"] = lr, weight_decay, betas
        self._moments["step"].fill_(number - 1)
        self.x.grad = gradient
        self._optimiser.step()
        self.x.grad = None

    def state_dict(self) -> dict[str, Tensor]:
        return {
            "x": self.x,
            "exp_avg": self._moments["exp_avg"],
            "exp_avg_sq": self._moments["exp_avg_sq"],
        }
