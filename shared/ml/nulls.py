"""What an attacker scores who rebuilt nothing. Without it a score says little."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from shared.ml.attacks.api import Estimate, mismatch
from shared.ml.samples import Samples

Score = Callable[[Tensor, Tensor], Tensor]
OTHERS = 64  # deletions that each is compared with: their mean is known by then, and all pairs grow with the square


def class_mean(public: Samples, labels: Tensor) -> Tensor:
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


def permuted_truth(score: Score, answers: Tensor, truth: Tensor) -> Tensor | None:
    """Every deletion's truth scored with other deletions' answers, averaged per truth: all, or the next 64 in order.

    Deletions stand in the order of a seeded permutation, so the next ones are drawn without looking.

    Args:
        score: (answers [D, ...], truth [D, ...]) -> [D, ...].

    Returns:
        like the score, or None for fewer than two deletions.
    """
    deletions = len(truth)
    if deletions < 2:
        return None
    shifted = [score(answers.roll(s, 0), truth) for s in range(1, min(deletions, OTHERS + 1))]
    return torch.stack(shifted).double().mean(0)


def nearest_public(
    estimates: Mapping[str, Estimate],
    explanations: list[str],
    labels: Tensor,
    public: Samples,
    candidates: int,
    device: torch.device,
) -> Tensor:
    """Of each deletion's class the public image that explains its weight change best: a search without a search.

    The first `candidates` public images of the class are tried; a class without any is tried with all classes'.

    Args:
        estimates: by name; `explanations` [D] names each deletion's.
        labels: int64 [D, 1]; several samples a deletion would need all their combinations.

    Returns:
        [D, 1, C, H, W].
    """
    networks = {name: e.at.network().to(device) for name, e in estimates.items() if e.at.count == 1}
    found = []
    for deletion, (name, label) in enumerate(zip(explanations, labels[:, 0], strict=True)):
        members = public.images[public.labels == label]
        tried = (members if len(members) else public.images)[:candidates].unsqueeze(1).to(device)
        estimate, at = estimates[name], estimates[name].at
        direction = _repeated(estimate.direction, deletion, tried)
        trust = None if estimate.trust is None else _repeated(estimate.trust, deletion, tried)
        network = networks[name] if at.count == 1 else at.network(deletion).to(device)
        weights = {n: w.detach() for n, w in network.named_parameters()}
        theirs = label.expand(len(tried), 1).to(device)
        rows = torch.full((len(tried),), deletion)
        common = estimate.common and estimate.common.rows(rows).to(tried)
        loss = mismatch(network, weights, tried, theirs, direction, 32, trust, common)
        found.append(tried[loss.argmin()].cpu())
    return torch.stack(found)


def _repeated(tensors: Mapping[str, Tensor], row: int, images: Tensor) -> dict[str, Tensor]:
    """One row of each tensor, once for each image."""
    return {n: t[row].expand(len(images), *t.shape[1:]).to(images.device) for n, t in tensors.items()}
