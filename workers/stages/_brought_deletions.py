"""Which samples the deletions of brought models forgot: all stages that read brought weights agree
on them."""

from __future__ import annotations

from typing import Annotated, Any, cast

import torch
from pydantic import Field
from torch import Tensor

from shared.errors import InvalidRequest
from shared.forget_sets import KINDS, Kind, list_forget_sets
from shared.ml.samples import Dataset, HasRecords, HasRetained
from shared.ml.training.recipe import Recipe
from shared.plugin_ref import PluginRef, plugin_field
from workers.stages._brought import BroughtParams
from workers.stages._forget_sets import Name, Names, Row, Rows


class BroughtDeletionParams(BroughtParams):
    """The parameters that a user gives of brought models: their architecture and deletions."""

    dataset: Annotated[PluginRef | None, plugin_field("dataset")] = Field(
        None,
        description="the data set whose train split holds the deleted samples, and whose test "
        "split is public; null: no samples are brought",
    )
    with_deleted: bool = Field(
        True, description="whether the deleted samples are in the data set's train split"
    )
    size: int = Field(1, ge=1, le=10_000, description="k, deleted samples per deletion")
    rows: list[Row | Rows] | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="which samples each deletion forgot, instead of size: one row of the data set's "
        "file (counted from 0; of a data set without a file, of its train split) or a list of "
        "rows; null, as ids and files: all deleted samples, in the order of the deletions",
    )
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
    trained_on_all: bool = Field(
        False,
        description="whether the original was trained on all of the data set's train split: its "
        "other samples are then retained ones",
    )
    recipe: Recipe | None = Field(
        None,
        description="how the original was trained, for tests of forgetting that train; null: not "
        "known",
    )
    training_set: int | None = Field(
        None,
        ge=1,
        le=10**9,
        description="N, samples that the original was trained on; needed for the exact estimate",
    )
    test_samples: int = Field(
        1000, ge=1, le=1_000_000, description="public samples that the original is checked on"
    )


def choose_forgotten(
    params: BroughtDeletionParams, dataset: Dataset, deletions: int | None = None
) -> Tensor:
    """Positions of the deleted samples in the train split, int64 [deletions, k].

    Args:
        deletions: as many must be named; None: as many as are.

    Raises:
        InvalidRequest: not as many deletions, or samples that do not exist.
    """
    named = list_forget_sets({kind: getattr(params, kind) for kind in KINDS})
    if named is None:
        return _split_deleted(params, dataset, deletions)
    kind, sets = cast(Kind, named[0]), named[1]
    field = f"params.{kind}"
    if len(sets) != (deletions or len(sets)) or len({len(one) for one in sets}) != 1:
        raise InvalidRequest(
            f"{kind} must list the deleted samples of {deletions or len(sets)} deletions, one per "
            "model, all of the same number",
            field,
        )
    if any(len({*one}) < len(one) for one in sets):
        raise InvalidRequest(f"{kind}: a deletion lists a sample twice", field)
    return torch.tensor([_find(params, dataset, kind, one, field) for one in sets])


def choose_training(
    params: BroughtDeletionParams, dataset: Dataset, forgotten: Tensor
) -> list[int]:
    """Positions in the train split of the samples that the original is known to be trained on, in
    order: the deleted ones, and those that were retained."""
    if params.trained_on_all or isinstance(dataset, HasRetained):
        return [*range(len(dataset.load("train").labels))]
    return sorted({*forgotten.flatten().tolist()})


def _find(
    params: BroughtDeletionParams, dataset: Dataset, kind: Kind, names: list[Any], field: str
) -> list[int]:
    """Positions in the train split of samples of these names."""
    if isinstance(dataset, HasRecords):
        return dataset.find(kind, names, field)
    if kind != "rows":
        raise InvalidRequest(
            f"samples of {params.dataset and params.dataset.name} cannot be named by {kind}: use rows",
            field,
        )
    count = _count_deletable(dataset)
    if (beyond := max(names)) >= count:
        raise InvalidRequest(
            f"there is no row {beyond}: the deleted samples are among {count} rows, counted from 0",
            field,
        )
    return names


def _split_deleted(
    params: BroughtDeletionParams, dataset: Dataset, deletions: int | None
) -> Tensor:
    """All that was brought as deleted, `size` samples for each deletion."""
    count = _count_deletable(dataset)
    if deletions is None:
        deletions = max(1, count // params.size)
    if params.size * deletions != count:
        hint = "bring as many for each model, or list rows"
        if count % deletions == 0:
            hint = f"set size to {count // deletions} (samples per deletion)"
            if params.size == 1:
                hint += f" if they were deleted together, or bring the weights of {count} deletions"
        raise InvalidRequest(
            f"{deletions} deletions of {params.size} are not the {count} deleted samples that were "
            f"brought: {hint}",
            "params.size",
        )
    return torch.arange(count).view(deletions, params.size)


def _count_deletable(dataset: Dataset) -> int:
    """Samples of the train split that may have been deleted: all but those that were retained."""
    if isinstance(dataset, HasRetained):
        return dataset.retained_from
    return len(dataset.load("train").labels)
