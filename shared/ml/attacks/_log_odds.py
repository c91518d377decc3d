"""A model's confidence in a label, on a scale that shows small changes."""

from __future__ import annotations

from torch import Tensor

MIN_PROBABILITY = 1e-30  # in place of 0 from an API with few digits


def compute_log_odds(probabilities: Tensor, labels: Tensor) -> Tensor:
    """log p(label) - log p(all others), [N]: it still moves where a probability is near 1 (Carlini
    et al. 2022).

    The other probabilities are summed; 1 - p has no significant digit in float32 if p is nearly 1.

    Args:
        probabilities: float64 [N, K].
        labels: int64 [N].
    """
    label_index = labels.unsqueeze(1)
    others = probabilities.scatter(1, label_index, 0).sum(1)
    return (
        probabilities.gather(1, label_index).squeeze(1).clamp_min(MIN_PROBABILITY).log()
        - others.clamp_min(MIN_PROBABILITY).log()
    )
