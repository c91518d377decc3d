"""Which samples of the training set each deletion forgets: never chosen by how well they leak."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from shared.errors import InvalidRequest
from shared.plugins import Params

Places = Annotated[list[Annotated[int, Field(ge=0, le=4999)]], Field(min_length=1, max_length=4999)]


class ForgetParams(Params):
    """Disjoint forget sets, all of one size."""

    forget: Literal["samples", "class"] = Field(
        "samples", description="what a deletion is: `size` samples, or `fraction` of the samples of one class"
    )
    deletions: int = Field(8, ge=1, le=1000, description="forget sets; of a class each, at most as there are classes")
    size: int = Field(1, ge=1, le=1000, description="k, samples in each forget set (forget: samples)")
    fraction: float = Field(
        1.0, gt=0, le=1, description="p_u, share of the class's samples that is forgotten, at least one (forget: class)"
    )
    indices: list[Places] | None = Field(
        None, min_length=1, max_length=1000,
        description="your own forget sets, as positions in the training set; instead of all of the above",
    )  # fmt: skip


def forget_places(params: ForgetParams, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Positions in the training set, int64 [deletions, k].

    Args:
        labels: int64 [N], of the training set.

    Raises:
        InvalidRequest: the training set has too few samples or classes, or `indices` are no forget sets.
    """
    n = len(labels)
    order = torch.randperm(n, generator=generator)
    if params.indices is not None:
        return _own(params.indices, n)
    if params.forget == "class":
        return _classes(params, labels, order)
    if params.deletions * params.size > n:
        raise InvalidRequest(
            f"{params.deletions} deletions of {params.size} need more than the {n} samples of the training set",
            "params.deletions",
        )
    return order[: params.deletions * params.size].view(params.deletions, params.size)


def _own(rows: list[list[int]], n: int) -> Tensor:
    flat = [place for row in rows for place in row]
    if len({len(row) for row in rows}) != 1:
        raise InvalidRequest("all forget sets must have one size", "params.indices")
    if max(flat) >= n:
        raise InvalidRequest(f"there is no sample {max(flat)} in a training set of {n}", "params.indices")
    if len(set(flat)) < len(flat):
        twice = next(place for place in flat if flat.count(place) > 1)
        raise InvalidRequest(f"sample {twice} is forgotten twice", "params.indices")
    return torch.tensor(rows)


def _classes(params: ForgetParams, labels: Tensor, order: Tensor) -> Tensor:
    """The first deletions' classes are those met first in `order`; of each its first samples there."""
    met = list(dict.fromkeys(labels[order].tolist()))
    if params.deletions > len(met):
        raise InvalidRequest(
            f"the training set has {len(met)} classes, not {params.deletions} to forget one after another",
            "params.deletions",
        )
    members = [order[labels[order] == c] for c in met[: params.deletions]]
    sizes = {max(1, round(params.fraction * len(m))) for m in members}
    if len(sizes) != 1:
        raise InvalidRequest(
            f"these classes would lose {min(sizes)} to {max(sizes)} samples: train on a balanced set "
            "(balanced: true), so that all deletions forget as many",
            "params.forget",
        )
    return torch.stack([m[: max(sizes)] for m in members])
