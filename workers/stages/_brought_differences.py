"""How far brought weights moved, within the bounds of a COMPARISON."""

from __future__ import annotations

import math
from collections.abc import Sequence

from shared.comparison import (
    MAX_BUFFERS,
    MAX_LISTED,
    MAX_TENSORS,
    ModelDifference,
    OtherTensors,
    TensorDifference,
)
from shared.evaluation import WIDEST
from shared.ml.ingest.pair import TensorChange, WeightComparison

MAX_NAME = 500
OWN_PREFIX = "network."  # of every tensor of ours


def describe_difference(comparison: WeightComparison, deletions: int) -> ModelDifference:
    """The tensors that moved most, in the order of the network, and the other weights together.
    Buffers are named if they differ.

    Args:
        deletions: of the release; the more there are, the fewer tensors of each are listed.
    """
    weights = [one for one in comparison.tensors if not one.buffer]
    most = min(MAX_TENSORS, MAX_LISTED // deletions)
    listed = {*sorted(range(len(weights)), key=lambda place: -weights[place].change)[:most]}
    others = [one for place, one in enumerate(weights) if place not in listed]
    return ModelDifference(
        relative_change=min(comparison.relative_change, WIDEST),
        unchanged_share=comparison.unchanged_share,
        cosine=comparison.cosine,
        resolution=comparison.resolution,
        moved_buffers=[_name_as_brought(name) for name in comparison.moved_buffers[:MAX_BUFFERS]],
        moved_buffer_count=len(comparison.moved_buffers),
        tensors=[_describe(weights[place]) for place in sorted(listed)],
        others=_add_up(others) if others else None,
    )


def _name_as_brought(name: str) -> str:
    """Without the prefix that models have here, and not in their users' files."""
    return name.removeprefix(OWN_PREFIX)[:MAX_NAME]


def _describe(one: TensorChange) -> TensorDifference:
    return TensorDifference(
        name=_name_as_brought(one.name),
        size=one.size,
        length=min(one.length, WIDEST),
        change=min(one.change, WIDEST),
        unchanged_share=one.unchanged_share,
    )


def _add_up(tensors: Sequence[TensorChange]) -> OtherTensors:
    size = sum(one.size for one in tensors)
    return OtherTensors(
        count=len(tensors),
        size=size,
        length=min(math.hypot(*(one.length for one in tensors)), WIDEST),
        change=min(math.hypot(*(one.change for one in tensors)), WIDEST),
        unchanged_share=min(
            1.0, sum(one.unchanged_share * one.size for one in tensors) / max(size, 1)
        ),
    )
