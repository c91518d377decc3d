"""How sure a model is of a label, on a scale on which small changes show."""

from __future__ import annotations

from torch import Tensor

MIN_PROBABILITY = 1e-30  # what an API that tells no more digits calls 0


def compute_log_odds(probabilities: Tensor, labels: Tensor) -> Tensor:
    """log p(label) - log p(all others), [N]: near 1 a probability hardly moves, this does (Carlini
    et al. 2022).

    The others' are added up rather than taken as 1 - p, of which float32 keeps no digit where p is
    nearly 1.

    Args:
        told: probabilities float64 [N, K].
        labels: int64 [N].
    """
    label_index = labels.unsqueeze(1)
    others = probabilities.scatter(1, label_index, 0).sum(1)
    return (
        probabilities.gather(1, label_index).squeeze(1).clamp_min(MIN_PROBABILITY).log()
        - others.clamp_min(MIN_PROBABILITY).log()
    )
