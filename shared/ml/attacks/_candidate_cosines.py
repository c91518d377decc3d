"""How well each candidate's own gradient agrees with the estimated gradient of each deletion."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from shared.ml.attacks._batched_gradients import BatchedGradients
from shared.ml.attacks._estimate import GradientEstimate, Tensors
from shared.ml.attacks._plain import compute_gradients
from shared.ml.context import Context
from shared.ml.samples import Samples

MAX_ELEMENTS = 2**23  # of the candidates' gradients that are held at a time: 64 MB
MAX_CHUNK_SIZE = 64  # candidates in one pass
# share of a gradient's norm: what filtering leaves of a gradient below it is rounding error
RESIDUAL_FLOOR = 1e-3


def compute_candidate_cosines(
    estimate: GradientEstimate, candidates: Samples, ctx: Context, share_passes: bool = True
) -> Tensor:
    """Cosine of the loss gradient of each of C candidates and the direction of each of D deletions,
    float64 [D, C] in [-1, 1].

    Gradients are treated like the direction: multiplied by the coordinate weights or with the
    shared subspace projected out, where the estimate has these. In float64: the gradient of a
    sample that the model has learned by heart is a small difference of probabilities near 1.
    Without `share_passes` candidates are computed one by one. Reports progress in candidates.
    """
    deletions = len(next(iter(estimate.direction.values())))
    networks = estimate.evaluation_point
    # one network for all deletions, or each deletion's own
    shared = networks.count == 1
    groups = [slice(None)] if shared else [slice(d, d + 1) for d in range(deletions)]
    total, rows = len(groups) * len(candidates.labels), []
    for index, deletion_rows in enumerate(groups):
        network = networks.load_network(index).to(ctx.device, torch.float64)
        part = _select(estimate, deletion_rows, ctx.device)
        chunks = []
        for gradients in _iter_gradients(network, candidates, ctx.device, share_passes):
            chunks.append(_compute_cosines(gradients, part).cpu())
            done = index * len(candidates.labels) + sum(len(chunk) for chunk in chunks)
            ctx.report_progress(done, total)
        rows.append(torch.cat(chunks).T)
    return torch.cat(rows)


def _select(estimate: GradientEstimate, rows: slice, device: torch.device) -> GradientEstimate:
    """The part for some deletions, on the device; the subspace in float64."""
    weights, subspace = estimate.coordinate_weights, estimate.shared_subspace
    return estimate._replace(
        direction={n: t[rows].to(device) for n, t in estimate.direction.items()},
        coordinate_weights=weights and {n: t[rows].to(device) for n, t in weights.items()},
        shared_subspace=subspace
        and subspace.select(rows).to(torch.empty(0, dtype=torch.float64, device=device)),
    )


def _iter_gradients(
    network: nn.Module, candidates: Samples, device: torch.device, share_passes: bool
) -> Iterator[Tensors]:
    """Each candidate's own gradient by weight, {name: [n, *shape]}, a chunk of candidates at a
    time."""
    weights = {name: w.detach() for name, w in network.named_parameters()}
    size = sum(w.numel() for w in weights.values())
    chunk_size = max(1, min(MAX_CHUNK_SIZE, MAX_ELEMENTS // size))
    batched_gradients = BatchedGradients(network, weights) if share_passes else None
    for start in range(0, len(candidates.labels), chunk_size):
        images, labels = (t[start : start + chunk_size].to(device) for t in candidates)
        x, labels = images.to(torch.float64), labels.unsqueeze(1)
        if batched_gradients is None:
            yield compute_gradients(network, weights, x.unsqueeze(1), labels)
        else:
            backward_pass = batched_gradients.forward_backward(
                x.requires_grad_(), labels, create_graph=False
            )
            yield backward_pass.compute_gradients()


def _compute_cosines(gradients: Tensors, estimate: GradientEstimate) -> Tensor:
    """[n, D] of n gradients. Directions have norm 1 and are weighted or filtered already, so only
    the gradients' norms change."""
    weights, subspace = estimate.coordinate_weights, estimate.shared_subspace
    product = torch.stack(
        [
            t.flatten(1) @ _weigh(estimate.direction[n], n, weights).flatten(1).to(t).T
            for n, t in gradients.items()
        ]
    ).sum(0)
    squared = {n: t.flatten(1).square() for n, t in gradients.items()}
    norm = torch.stack([t.sum(1) for t in squared.values()]).sum(0).sqrt().unsqueeze(1)
    norm = norm.clamp_min(1e-300)
    if weights is not None:
        weighted = [t @ weights[n].flatten(1).to(t).square().T for n, t in squared.items()]
        return product / torch.stack(weighted).sum(0).sqrt().clamp_min(1e-300)
    if subspace is not None:
        norm = torch.maximum(subspace.measure_residual_norms(gradients), RESIDUAL_FLOOR * norm)
    return product / norm


def _weigh(direction: Tensor, name: str, weights: Tensors | None) -> Tensor:
    """The inner product of a weighted gradient and a direction is that of the gradient and the
    weighted direction."""
    return direction if weights is None else direction * weights[name]
