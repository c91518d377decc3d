"""Baselines: scores without the attack."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from shared.ml.attacks.api import GradientEstimate, compute_matching_loss
from shared.ml.samples import Samples

ScoreFunction = Callable[[Tensor, Tensor], Tensor]
# other deletions that each is scored against: enough to know the mean; all pairs would be quadratic
MAX_PERMUTATIONS = 64


def compute_class_means(public: Samples, labels: Tensor) -> Tensor:
    """The mean public image of each label, any shape of labels -> [*labels.shape, C, H, W].

    A class without public samples gets the mean of all.
    """
    means = {}
    for label in labels.unique().tolist():
        members = public.images[public.labels == label]
        means[label] = (members if len(members) else public.images).mean(0)
    return torch.stack([means[label] for label in labels.flatten().tolist()]).view(
        *labels.shape, *public.images.shape[1:]
    )


def score_permuted_truth(score: ScoreFunction, guesses: Tensor, truth: Tensor) -> Tensor | None:
    """Score every deletion's truth against the results of other deletions (all, or the next 64),
    averaged per truth.

    Deletions are in a seeded random order, so the next ones are a random choice.

    Args:
        score: (guesses [D, ...], truth [D, ...]) -> [D, ...].

    Returns:
        like the score, or None for fewer than two deletions.
    """
    deletions = len(truth)
    if deletions < 2:
        return None
    shifted = [
        score(guesses.roll(s, 0), truth) for s in range(1, min(deletions, MAX_PERMUTATIONS + 1))
    ]
    return torch.stack(shifted).double().mean(0)


class NearestPublic(NamedTuple):
    """`images` [D, 1, C, H, W], and how well each matches: `losses` [D], 1 - cosine."""

    images: Tensor
    losses: Tensor


def select_nearest_public(
    estimates: Mapping[str, GradientEstimate],
    gradient_sources: list[str],
    labels: Tensor,
    public: Samples,
    max_candidates: int,
    device: torch.device,
) -> NearestPublic:
    """The public image of each deletion's class whose gradient matches the weight change best: no
    optimisation.

    The first `max_candidates` public images of the class are tried; for a class without any, those
    of all classes.

    Args:
        estimates: by name; `gradient_sources` [D] names the one of each deletion.
        labels: int64 [D, 1]; with several samples per deletion all combinations would have to be
            tried.
    """
    networks = {
        name: e.evaluation_point.load_network().to(device)
        for name, e in estimates.items()
        if e.evaluation_point.count == 1
    }
    nearest, losses = [], []
    for deletion, (name, label) in enumerate(zip(gradient_sources, labels[:, 0], strict=True)):
        members = public.images[public.labels == label]
        images = (
            (members if len(members) else public.images)[:max_candidates].unsqueeze(1).to(device)
        )
        estimate, point = estimates[name], estimates[name].evaluation_point
        direction = _repeat_row(estimate.direction, deletion, images)
        coordinate_weights = (
            None
            if estimate.coordinate_weights is None
            else _repeat_row(estimate.coordinate_weights, deletion, images)
        )
        network = networks[name] if point.count == 1 else point.load_network(deletion).to(device)
        weights = {n: w.detach() for n, w in network.named_parameters()}
        image_labels = label.expand(len(images), 1).to(device)
        rows = torch.full((len(images),), deletion)
        subspace = estimate.shared_subspace and estimate.shared_subspace.select(rows).to(images)
        loss = compute_matching_loss(
            network, weights, images, image_labels, direction, 32, coordinate_weights, subspace
        )
        nearest.append(images[loss.argmin()].cpu())
        losses.append(loss.min().cpu())
    return NearestPublic(torch.stack(nearest), torch.stack(losses))


def _repeat_row(tensors: Mapping[str, Tensor], row: int, images: Tensor) -> dict[str, Tensor]:
    """One row of each tensor, once for each image."""
    return {
        n: t[row].expand(len(images), *t.shape[1:]).to(images.device) for n, t in tensors.items()
    }
