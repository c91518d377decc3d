"""What was not brought with models that a user brings, and what the report cannot say without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shared.comparison import Comparison
from shared.reporting.models import NotBrought


@dataclass(frozen=True)
class Part:
    """Something that can be brought with a pair of models."""

    is_there: Callable[[Comparison], bool]
    what: str
    how: str
    cannot_say: str


PARTS = (
    Part(
        lambda one: one.with_deleted,
        "the deleted samples",
        "palimpsest pair --deleted FILE.npz",
        "whether anything that came back is a deleted sample. There is no score, no truth beside "
        "the pictures, and no class is known to be right or wrong, so the verdict stays "
        "inconclusive.",
    ),
    Part(
        lambda one: one.with_public,
        "public samples of the same kind",
        "palimpsest pair --public FILE.npz",
        "how accurate the models are, what a guess from public samples would have scored (the "
        "baselines), and whether a reconstruction is nearer to the deleted sample than to others "
        "of its class (the rank among decoys).",
    ),
    Part(
        lambda one: one.with_base,
        "the weights that training started from, with N",
        "palimpsest pair --base FILE.safetensors --training-set N",
        "what an attacker gets who has them and computes the update of the deleted samples exactly.",
    ),
)


def list_not_brought(comparisons: Sequence[Comparison]) -> list[NotBrought]:
    """The parts that no release has, in the order in which they matter; empty if no models were
    brought."""
    if not comparisons:
        return []
    return [
        NotBrought(what=part.what, how=part.how, cannot_say=part.cannot_say)
        for part in PARTS
        if not any(part.is_there(one) for one in comparisons)
    ]
