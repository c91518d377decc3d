"""KLoM: how far the distribution of each sample's margin is from that of retrained models."""

from __future__ import annotations

import torch
from torch import Tensor

BINS = 20
LIMIT = 20.0  # margins are clipped to [-LIMIT, LIMIT]


def compute_margins(logits: Tensor, labels: Tensor) -> Tensor:
    """The logit of the true class less the log-sum-exp of the others', float64 [...].

    Args:
        logits: [..., K].
        labels: int64 [...].
    """
    logits = logits.double()
    true = logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    others = logits.scatter(-1, labels.unsqueeze(-1), -torch.inf)
    return true - others.logsumexp(-1)


def compute_klom(release: Tensor, retrained: Tensor) -> Tensor:
    """KL divergence of the retrained models' margins from the released models', by sample, in nats.

    Source: Georgiev et al. 2024, arXiv 2410.23232, appendix E.1; bins as in EasyDUB, arXiv
    2602.16400. Both compare 100 models with 100; with the few models of an audit a histogram has
    one count or three, so each gets one pseudo-count, spread over all bins. Compare the result
    only with that of as many other models.

    Args:
        release, retrained: margins [models, N].

    Returns:
        float64 [N], at least 0.
    """
    p, q = _build_histograms(retrained), _build_histograms(release)
    return (p * (p / q).log()).sum(0).clamp_min(0)  # rounding can give -1e-17


def leave_one_out(release: Tensor, retrained: Tensor) -> tuple[Tensor, Tensor]:
    """KLoM of one released model, and of a retrained model in its place, by sample.

    Each retrained model is left out once; the release is compared with the same S - 1 remaining
    ones, so the two are equal in expectation for a release that was retrained.

    Args:
        release: margins [N].
        retrained: margins [S, N], at least 2 models.

    Returns:
        float64 [N] twice: of the release and of a retrained model.
    """
    seeds = len(retrained)
    of_release, of_retrained = [], []
    for seed in range(seeds):
        others = retrained[[other for other in range(seeds) if other != seed]]
        of_release.append(compute_klom(release.unsqueeze(0), others))
        of_retrained.append(compute_klom(retrained[seed : seed + 1], others))
    return torch.stack(of_release).mean(0), torch.stack(of_retrained).mean(0)


def _build_histograms(margins: Tensor) -> Tensor:
    """Shares of each bin, [BINS, N], with one pseudo-count."""
    position = (margins.double().clamp(-LIMIT, LIMIT) + LIMIT) / (2 * LIMIT) * BINS
    bins = position.long().clamp_max(BINS - 1)
    counts = torch.nn.functional.one_hot(bins, BINS).double().sum(0).T
    return (counts + 1 / BINS) / (len(margins) + 1)
