"""The input of a network's last layer, which one sample's gradient shows as it is."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from shared.ml.attacks._estimate import GradientEstimate

MIN_RANK_ONE_SHARE = 0.99  # of the last layer's gradient, for its input to count as shown


class EmbeddingTarget(NamedTuple):
    """The inputs [L, F] of the layer whose weight is called `name`, and the weight of each trial's
    distance to its own in the objective [L]."""

    name: str
    values: Tensor
    weight: Tensor

    def select(self, rows: Tensor | slice) -> EmbeddingTarget:
        return EmbeddingTarget(self.name, self.values[rows], self.weight[rows])

    def to(self, like: Tensor) -> EmbeddingTarget:
        return EmbeddingTarget(self.name, self.values.to(like), self.weight.to(like))

    def compute_penalty(self, embeddings: Tensor) -> Tensor:
        """The weighted squared distance of `embeddings` [L, F] to their targets, relative to the
        targets' squared length; summed over trials. 0 where the layer takes several rows of each
        image, whose sum the gradient shows."""
        if embeddings.shape != self.values.shape:
            return self.weight.new_zeros(())
        length = self.values.square().sum(1).clamp_min(1e-30)
        return (self.weight * (embeddings - self.values).square().sum(1) / length).sum()


def read_embeddings(estimate: GradientEstimate, weight: float) -> EmbeddingTarget | None:
    """What the estimated gradient shows of each deletion's input to the last layer, if that is
    dense with a bias.

    For a single sample the gradient in the last weights is the outer product of that in the bias
    and the layer's input h, so h = dW^T db / |db|^2. Estimates that are not one sample's gradient
    (several steps, noise) are no such product: where less than `MIN_RANK_ONE_SHARE` of dW is, the
    weight is 0. None for weighted or projected estimates, whose coordinates are no gradient's.
    """
    *_, last_but_one, last = [None, None, *estimate.direction]
    if estimate.coordinate_weights is not None or estimate.shared_subspace is not None:
        return None
    if last_but_one is None or last is None:
        return None
    matrix, bias = estimate.direction[last_but_one], estimate.direction[last]
    if matrix.dim() != 3 or bias.dim() != 2 or matrix.shape[1] != bias.shape[1]:
        return None
    values = torch.einsum("doi,do->di", matrix, bias) / bias.square().sum(
        1, keepdim=True
    ).clamp_min(1e-30)
    explained = bias.square().sum(1) * values.square().sum(1)
    share = explained / matrix.square().sum((1, 2)).clamp_min(1e-30)
    return EmbeddingTarget(
        last_but_one, values, torch.where(share >= MIN_RANK_ONE_SHARE, weight, 0.0).to(values)
    )
