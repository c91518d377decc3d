"""Which samples of the training set each deletion forgets: never chosen by how well they leak."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor

from shared.errors import InvalidRequest
from shared.forget_sets import KINDS, MAX_NAME, MAX_RECORDS, PLACES, Kind, list_forget_sets
from shared.ml.context import Context
from shared.ml.records import TrainingSet
from shared.ml.samples import Dataset
from shared.plugins import Params
from shared.pool import MAX_SAMPLES
from workers.stages._named_records import find_in_training

Positions = Annotated[
    list[Annotated[int, Field(ge=0, lt=MAX_SAMPLES)]],
    Field(min_length=1, max_length=MAX_SAMPLES),
]

Row = Annotated[int, Field(ge=0, strict=True)]
Rows = Annotated[list[Row], Field(min_length=1, max_length=MAX_RECORDS)]
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
Names = Annotated[list[Name], Field(min_length=1, max_length=MAX_RECORDS)]
Find = Callable[[Kind, Sequence[int | str], str], list[int]]


class ForgetParams(Params):
    """Disjoint forget sets, all of one size."""

    forget: Literal["samples", "class"] = Field(
        "samples",
        description=(
            "what each deletion forgets: `size` samples, or `fraction` of the samples of one class"
        ),
    )
    deletions: int = Field(
        8,
        ge=1,
        le=1000,
        description="number of forget sets; with forget: class, at most the number of classes",
    )
    size: int = Field(
        1,
        ge=1,
        le=MAX_SAMPLES,
        description="k, samples in each forget set (forget: samples)",
    )
    fraction: float = Field(
        1.0,
        gt=0,
        le=1,
        description=(
            "p_u, share of the class's samples to forget, at least one sample (forget: class)"
        ),
    )
    indices: list[Positions] | None = Field(
        None, min_length=1, max_length=1000,
        description=(
            "your own forget sets, as positions in the training set, instead of the parameters "
            "above"
        ),
    )  # fmt: skip
    rows: list[Row | Rows] | None = Field(
        None, min_length=1, max_length=1000,
        description=(
            "your own forget sets: for each deletion one row of the file (counted from 0) or a "
            "list of rows; ids work the same way"
        ),
    )  # fmt: skip
    ids: list[Name | Names] | None = Field(
        None, min_length=1, max_length=1000,
        description="like rows, but as values of the column that the data set's parameter id names",
    )  # fmt: skip
    files: list[Name | Names] | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="like rows, but as files of an image folder, such as cat/0007.png",
    )

    @model_validator(mode="after")
    def _said_once(self) -> ForgetParams:
        given = [name for name in (PLACES, *KINDS) if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(
                f"{given[0]} and {given[1]} both specify what to forget: remove one of them"
            )
        return self

    @property
    def listed_sets(self) -> tuple[str, list[list[Any]]] | None:
        """See `shared.forget_sets`."""
        return list_forget_sets({name: getattr(self, name) for name in (PLACES, *KINDS)})


class DeletionParams(ForgetParams):
    """Forget sets, and which model each deletion starts from."""

    successive: bool = Field(
        False,
        description=(
            "start each deletion from the model of the previous one instead of the original"
        ),
    )


def draw_job_forget_sets(
    ctx: Context, params: ForgetParams, dataset: Dataset, training: TrainingSet, labels: Tensor
) -> Tensor:
    """The forget sets of a job's seed, int64 [deletions, k], positions in the training set.

    All stages that delete draw them here, so equal seeds and parameters give equal forget sets.

    Args:
        labels: int64 [N], of the training set.

    Raises:
        InvalidRequest: see `draw_forget_sets` and `find_in_training`.
    """
    find = partial(find_in_training, dataset, training)
    return draw_forget_sets(params, labels, ctx.make_generator("forget sets"), find)


def draw_forget_sets(
    params: ForgetParams, labels: Tensor, generator: torch.Generator, find: Find | None = None
) -> Tensor:
    """Positions in the training set, int64 [deletions, k].

    Args:
        labels: int64 [N], of the training set.
        find: returns the positions in the training set of named records.

    Raises:
        InvalidRequest: the training set has too few samples or classes, or `indices` are not valid
            forget sets.
    """
    n = len(labels)
    order = torch.randperm(n, generator=generator)
    if (own := params.listed_sets) is not None:
        field, sets = own
        if field != PLACES:
            assert find is not None
            sets = [find(cast(Kind, field), one, f"params.{field}") for one in sets]
        return _check_given_sets(sets, n, f"params.{field}")
    if params.forget == "class":
        return _draw_class_sets(params, labels, order)
    if params.deletions * params.size > n:
        raise InvalidRequest(
            f"{params.deletions} deletions of {params.size} need more than the {n} samples of "
            "the training set: lower deletions or size, or train on more samples",
            "params.deletions",
        )
    return order[: params.deletions * params.size].view(params.deletions, params.size)


def _check_given_sets(rows: list[list[int]], n: int, field: str) -> Tensor:
    positions = [place for row in rows for place in row]
    if len({len(row) for row in rows}) != 1:
        raise InvalidRequest("all forget sets must have the same size", field)
    if max(positions) >= n:
        raise InvalidRequest(
            f"there is no sample {max(positions)} in a training set of {n}: samples are numbered "
            f"from 0 to {n - 1}",
            field,
        )
    if len(set(positions)) < len(positions):
        twice = next(place for place, times in Counter(positions).items() if times > 1)
        raise InvalidRequest(f"sample {twice} is in more than one forget set", field)
    return torch.tensor(rows)


def _draw_class_sets(params: ForgetParams, labels: Tensor, order: Tensor) -> Tensor:
    """Classes in order of first appearance in `order`; from each class its first samples there."""
    classes = list(dict.fromkeys(labels[order].tolist()))
    if params.deletions > len(classes):
        raise InvalidRequest(
            f"the training set has {len(classes)} classes, too few for {params.deletions} "
            "deletions of one class each",
            "params.deletions",
        )
    members = [order[labels[order] == c] for c in classes[: params.deletions]]
    sizes = {max(1, round(params.fraction * len(m))) for m in members}
    if len(sizes) != 1:
        raise InvalidRequest(
            f"these classes would lose {min(sizes)} to {max(sizes)} samples: train on a balanced "
            "set (balanced: true), so that all deletions forget the same number",
            "params.forget",
        )
    return torch.stack([m[: max(sizes)] for m in members])
