"""P-values of label attacks, from updates that the auditor knows to be harmless.

Source: Westfall and Young 1993 (maximum statistic); Phipson and Smyth 2010 (the observed one counts
as a draw).
"""

from __future__ import annotations

import torch
from torch import Tensor

from shared.errors import InvalidRequest

MIN_DRAWS = 19  # of a null distribution: with fewer no p-value reaches 0.05


def compute_max_statistic_p(observed: Tensor, null_scores: Tensor) -> Tensor:
    """P-values of updates without a class chosen beforehand: (1 + b) / (B + 1).

    An update's statistic is the score of its most suspicious class, which accounts for choosing
    that class. b counts the updates of the null distribution that are at least as suspicious: ties
    count against the observed one. If the observed update is itself harmless, p <= a happens with
    probability a at most, whatever the scores' distribution.

    Args:
        observed: scores [D, K] of D updates for K classes, lower is likelier.
        null_scores: [B, K], the same scores of B updates that forgot nothing, B >= 19.

    Returns:
        float64 [D], 1 / (B + 1) at least and 1 at most.

    Raises:
        InvalidRequest: the null distribution is too small, the classes differ, or a score is not
            finite.
    """
    if null_scores.dim() != 2 or observed.dim() != 2 or null_scores.shape[1] != observed.shape[1]:
        raise InvalidRequest(
            f"scores must be [D, K] and [B, K] of the same K classes, got {[*observed.shape]} "
            f"and {[*null_scores.shape]}"
        )
    if len(null_scores) < MIN_DRAWS:
        raise InvalidRequest(
            f"the null distribution needs at least {MIN_DRAWS} shadow deletions, got "
            f"{len(null_scores)}"
        )
    for name, scores in (("observed", observed), ("null", null_scores)):
        if not bool(scores.isfinite().all()):
            raise InvalidRequest(f"the {name} scores must be finite")
    observed_lowest, null_lowest = observed.double().amin(1), null_scores.double().amin(1)
    at_least_as_low = (null_lowest <= observed_lowest.unsqueeze(1)).sum(1)
    return (1 + at_least_as_low).double() / (len(null_scores) + 1)


def compute_claim_p(
    guesses: Tensor, scores: Tensor, shadow_scores: Tensor, shadow_labels: Tensor
) -> Tensor:
    """P-values of claims that these classes were forgotten, from shadow deletions whose truth is
    known.

    A claim is wrong where it names a class that was not forgotten. So its null distribution is made
    of the scores of classes that were not: the lowest of them in each shadow deletion. Before that,
    each deletion's scores are scaled by their own spread (a deletion that moves the model further
    is not more certain), and each class is standardised by its scores where it is not forgotten
    (some always score low): a shadow deletion by those of the others, as the tested one is. If its
    own score were among them, it would look less extreme than the tested one, which matters if
    there are few: with 19, 9 to 27 % of harmless deletions had p <= 0.05.

    p = (1 + shadows at least as low) / (B + 1): if the shadow deletions are distributed like the
    tested ones, a deletion gets a wrong claim with p <= a with probability a at most. "Was anything
    forgotten?" is another question, and its p-value does not say which class.

    Args:
        guesses: int64 [D, c], classes claimed.
        scores: [D, K], lower is likelier.
        shadow_scores: [B, K] of the same attack on B shadow deletions, B >= 19.
        shadow_labels: int64 [B, k], what they forgot.

    Returns:
        float64 [D, c].

    Raises:
        InvalidRequest: shapes do not fit, a score is not finite, or a class is forgotten by all
            shadows but two.
    """
    shape, shadow_shape = [*scores.shape], [*shadow_scores.shape]
    if scores.dim() != 2 or guesses.shape[:1] != scores.shape[:1] or shape[1:] != shadow_shape[1:]:
        raise InvalidRequest(
            f"guesses {[*guesses.shape]}, scores {shape} and shadows' scores {shadow_shape} do not "
            "match"
        )
    not_forgotten = torch.ones(shadow_scores.shape, dtype=torch.bool).scatter_(
        1, shadow_labels, False
    )
    count = not_forgotten.sum(0)
    if int(count.min()) < 3:
        raise InvalidRequest(
            f"class {int(count.argmin())} is forgotten by nearly all shadow deletions, so it has "
            "no null distribution"
        )
    observed, null_scores = (
        _scale_by_spread(scores.double()),
        _scale_by_spread(shadow_scores.double()),
    )
    mean = torch.where(not_forgotten, null_scores, 0).sum(0) / count
    centred = torch.where(not_forgotten, null_scores - mean, 0)
    squares = centred.square().sum(0)
    spread = (squares / (count - 1)).sqrt().clamp_min(1e-30)
    # mean and spread of all others, from those of all
    distance = centred * count / (count - 1)
    squares_of_others = (squares - centred * distance).clamp_min(0)
    spread_of_others = (squares_of_others / (count - 2)).sqrt().clamp_min(1e-30)
    strongest = (
        (distance / spread_of_others).masked_fill(~not_forgotten, torch.inf).amin(1, keepdim=True)
    )
    claimed = ((observed - mean) / spread).gather(1, guesses)
    return compute_max_statistic_p(claimed.view(-1, 1), strongest).view(guesses.shape)


def _scale_by_spread(scores: Tensor) -> Tensor:
    """Each row minus its median, divided by its mean distance from it. With fewer than 4 classes
    little is left."""
    if scores.shape[1] < 4:
        return scores
    centred = scores - scores.median(1, keepdim=True).values
    return centred / centred.abs().mean(1, keepdim=True).clamp_min(1e-300)
