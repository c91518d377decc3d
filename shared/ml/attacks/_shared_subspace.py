"""The subspace that several deletions share, and how to project it out of gradients."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

Tensors = dict[str, Tensor]
# share of the largest eigenvalue below which others are rounding errors
EIGENVALUE_FLOOR = 1e-12


@dataclass(frozen=True)
class SharedSubspace:
    """For each of L trials, the span of the other deletions' directions, which is projected out of
    its gradients.

    `basis` {name: [B, *shape]} is orthonormal and spans all directions; `residual_direction` [L,
    B], of norm 1, is the part of that span orthogonal to the others' directions.
    """

    basis: Tensors
    residual_direction: Tensor

    @classmethod
    def from_directions(cls, direction: Tensors, deletions: int, rows: list[int]) -> SharedSubspace:
        """From directions {name: [R, *shape]}, the first `deletions` of which span it; `rows` is
        each trial's deletion.

        By the eigenvectors of the inner products, in float64: the shared drift is large, the
        residual of a deletion small.
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
        """The part for some trials."""
        return SharedSubspace(self.basis, self.residual_direction[rows])

    def to(self, like: Tensor) -> SharedSubspace:
        """Converted to that tensor's type and device."""
        return SharedSubspace(
            {n: t.to(like) for n, t in self.basis.items()}, self.residual_direction.to(like)
        )

    def project_out(self, gradients: Tensors) -> Tensors:
        """Gradients {name: [L, *shape]} without their part in it: an orthogonal projection."""
        coordinates = self._compute_coordinates(gradients)
        others = coordinates - self.residual_direction * torch.linalg.vecdot(
            self.residual_direction, coordinates
        ).unsqueeze(1)
        return {n: t - (others @ self.basis[n].flatten(1)).view_as(t) for n, t in gradients.items()}

    def measure_residual_norms(self, gradients: Tensors) -> Tensor:
        """Norms [n, L] of n gradients {name: [n, *shape]} after `project_out` for each of the
        trials, without computing the projections."""
        coordinates = self._compute_coordinates(gradients)
        total = torch.stack([t.flatten(1).square().sum(1) for t in gradients.values()]).sum(0)
        outside = (total - coordinates.square().sum(1)).unsqueeze(1)
        return (outside + (coordinates @ self.residual_direction.T).square()).clamp_min(0).sqrt()

    def _compute_coordinates(self, gradients: Tensors) -> Tensor:
        """In the basis, [n, B]."""
        return torch.stack(
            [t.flatten(1) @ self.basis[n].flatten(1).T for n, t in gradients.items()]
        ).sum(0)
