"""What several deletions have in common, and gradients without it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

Tensors = dict[str, Tensor]
NOISE = 1e-12  # share of the greatest eigenvalue below which there are only rounding errors


@dataclass(frozen=True)
class Common:
    """For each of L lanes the span of the other deletions' directions, which its gradients are compared without.

    `basis` {name: [B, *shape]} is an orthonormal one of all directions together, and `own` [L, B], of norm 1, what of
    it does not lie in the span of the others.
    """

    basis: Tensors
    own: Tensor

    @classmethod
    def of(cls, direction: Tensors, deletions: int, rows: list[int]) -> Common:
        """From directions {name: [R, *shape]}, the first `deletions` of which span it; `rows` says whose each lane is.

        By the eigenvectors of the inner products, in float64: the drift is long, what is a deletion's own is short.
        """
        flat = [g[:deletions].flatten(1).double() for g in direction.values()]
        values, vectors = torch.linalg.eigh(torch.stack([f @ f.T for f in flat]).sum(0))
        kept = values > NOISE * values[-1]
        whiten = (vectors[:, kept] / values[kept].sqrt()).T  # [B, D]: its columns are dual to the directions
        basis = {n: (whiten @ f).view(-1, *g.shape[1:]) for (n, g), f in zip(direction.items(), flat, strict=True)}
        own = whiten / whiten.norm(dim=0)
        return cls(basis, own.T[rows])

    def rows(self, lanes: Tensor | slice) -> Common:
        """Of some lanes."""
        return Common(self.basis, self.own[lanes])

    def to(self, like: Tensor) -> Common:
        """With that tensor's type and device."""
        return Common({n: t.to(like) for n, t in self.basis.items()}, self.own.to(like))

    def off(self, a: Tensors) -> Tensors:
        """`a` {name: [L, *shape]} without it: a projection, so also its own transpose."""
        inside = torch.stack([t.flatten(1) @ self.basis[n].flatten(1).T for n, t in a.items()]).sum(0)
        others = inside - self.own * torch.linalg.vecdot(self.own, inside).unsqueeze(1)
        return {n: t - (others @ self.basis[n].flatten(1)).view_as(t) for n, t in a.items()}
