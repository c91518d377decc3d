"""Which samples the deletions of brought models forgot: all stages that read brought weights agree
on them."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from shared.errors import InvalidRequest
from shared.ml.samples import Dataset
from shared.plugin_ref import PluginRef, plugin_field
from workers.stages._brought import BroughtParams

Row = Annotated[int, Field(ge=0)]
Rows = Annotated[list[Row], Field(min_length=1, max_length=10_000)]


class BroughtDeletionParams(BroughtParams):
    """The parameters that a user gives of brought models: their architecture and deletions."""

    dataset: Annotated[PluginRef, plugin_field("dataset")] = Field(
        description="the data set whose train split holds the deleted samples, and whose test "
        "split is public"
    )
    size: int = Field(1, ge=1, le=10_000, description="k, deleted samples per deletion")
    rows: list[Row | Rows] | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="which samples of the train split each deletion forgot (counted from 0), "
        "instead of size; null: all of it, in the order of the deletions",
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
    count = len(dataset.load("train").labels)
    if params.rows is not None:
        rows = [one if isinstance(one, list) else [one] for one in params.rows]
        if len(rows) != (deletions or len(rows)) or len({len(one) for one in rows}) != 1:
            raise InvalidRequest(
                f"rows must list the deleted samples of {deletions or len(rows)} deletions, one "
                "per model, all of the same number",
                "params.rows",
            )
        beyond = max(place for one in rows for place in one)
        if beyond >= count:
            raise InvalidRequest(
                f"there is no row {beyond}: the deleted samples are among {count} rows, counted "
                "from 0",
                "params.rows",
            )
        return torch.tensor(rows)
    if deletions is None:
        deletions = max(1, count // params.size)
    if params.size * deletions != count:
        hint = (
            f"set size to {count // deletions}"
            if count % deletions == 0
            else "bring as many for each model, or list rows"
        )
        raise InvalidRequest(
            f"{deletions} deletions of {params.size} are not the {count} deleted samples that were "
            f"brought: {hint}",
            "params.size",
        )
    return torch.arange(count).view(deletions, params.size)
