"""The way to retraining: how much of the change that retraining makes a release has made."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from shared.forgetting import LEAST_RISE, MIN_SEEDS, ROUNDING_NATS
from shared.ml.statistics import Interval, bootstrap_ratio


class Way(NamedTuple):
    """`value` is 0 where the release is like the original and 1 where it is like retraining; None
    if that cannot be measured, and `reason` says why."""

    value: float | None
    interval: Interval | None
    spread: float
    reason: str | None = None


def measure_way(original: Tensor, release: Tensor, retrained: Tensor) -> Way:
    """(forget loss of the release - of the original) / (retrained - original).

    Means are pooled over deletions (and for the retrained models over seeds) before the division.
    The spread is the standard deviation over seeds of the retrained models' pooled mean: a
    difference that is not larger than it does not show what retraining changes, and one below
    `LEAST_RISE` of the original's loss shows that the models hardly hold the samples. The 95 %
    interval is over deletions (`bootstrap_ratio`); None for fewer than 5. With fewer than
    `MIN_SEEDS` seeds there is no way.

    Args:
        original, release: mean loss of each deletion's forget set, in nats, [D].
        retrained: the same by seed, [D, S].
    """
    if reason := find_too_few_seeds(retrained.shape[1]):
        return Way(None, None, 0.0, reason)
    original, release, retrained = original.double(), release.double(), retrained.double()
    spread = retrained.mean(0).std().item()
    whole = retrained.mean(1) - original
    length = whole.mean().item()
    rise = length / max(original.mean().item(), ROUNDING_NATS)
    if length <= max(spread, ROUNDING_NATS) or rise <= LEAST_RISE:
        return Way(None, None, spread, _explain(length, spread, rise))
    done = release - original
    value = done.mean().item() / length
    return Way(value, bootstrap_ratio(done, whole), spread)


def find_too_few_seeds(seeds: int) -> str | None:
    """Why so few retrained models per deletion cannot tell what retraining changes; None if they
    can."""
    if seeds >= MIN_SEEDS:
        return None
    return (
        f"at least {MIN_SEEDS} retrained models per deletion are needed to know their spread, and "
        f"there {'is 1' if seeds == 1 else f'are {seeds}'}"
    )


def _explain(length: float, spread: float, rise: float) -> str:
    if length <= ROUNDING_NATS:
        return "retraining does not raise the forget loss"
    raises = f"retraining raises the forget loss by {length:.3g} nats"
    if length <= spread:
        return f"{raises}, which is not more than its spread over seeds ({spread:.3g})"
    return (
        f"{raises}, {100 * rise:.2g} % of the original's: at most {100 * LEAST_RISE:g} % hardly "
        "show that the original was trained on the samples"
    )
