"""What several deletions have in common, and gradients without it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

Tensors = dict[str, Tensor]
# share of the greatest eigenvalue below which there are only rounding errors
EIGENVALUE_FLOOR = 1e-12


@dataclass(frozen=True)
class SharedSubspace:
    """For each of L lanes the span of the other deletions' directions, which its gradients are
    compared without.

    `basis` {name: [B, *shape]} is an orthonormal one of all directions together, and `own` [L, B],
    of norm 1, what of it does not lie in the span of the others.
    """

    basis: Tensors
    residual_direction: Tensor

    @classmethod
    def from_directions(cls, direction: Tensors, deletions: int, rows: list[int]) -> SharedSubspace:
        """From directions {name: [R, *shape]}, the first `deletions` of which span it; `rows` says
        whose each lane is.

        By the eigenvectors of the inner products, in float64: the drift is long, what is a
        deletion's own is short.
        """
        flat = [g[:deletions].flatten(1).double() for g in direction.values()]
        values, vectors = torch.linalg.eigh(torch.stack([f @ f.T for f in flat]).sum(0))
        kept = values > EIGENVALUE_FLOOR * values[-1]
        # [B, D]: its columns are dual to the directions
        whiten = (vectors[:, kept] / values[kept].sqrt()).T
        basis = {
            n: (whiten @ f).view(-1, *g.shape[1:])
            for (n, g), f in zip(direction.items(), flat, strict=True)
        }
        residuals = whiten / whiten.norm(dim=0)
        return cls(basis, residuals.T[rows])

    def select(self, rows: Tensor | slice) -> SharedSubspace:
        """Of some lanes."""
        return SharedSubspace(self.basis, self.residual_direction[rows])

    def to(self, like: Tensor) -> SharedSubspace:
        """With that tensor's type and device."""
        return SharedSubspace(
            {n: t.to(like) for n, t in self.basis.items()}, self.residual_direction.to(like)
        )

    def project_out(self, gradients: Tensors) -> Tensors:
        """`a` {name: [L, *shape]} without it: a projection, so also its own transpose."""
        coordinates = torch.stack(
            [t.flatten(1) @ self.basis[n].flatten(1).T for n, t in gradients.items()]
        ).sum(0)
        others = coordinates - self.residual_direction * torch.linalg.vecdot(
            self.residual_direction, coordinates
        ).unsqueeze(1)
        return {n: t - (others @ self.basis[n].flatten(1)).view_as(t) for n, t in gradients.items()}
