"""Records that deletions name: rows of a file, values of its id column, files of a folder.

A record that may be forgotten must be in the pool, where no base model has seen it, and in the
training set. So a data set is told which (`deletable_rows` and so on), moves them out of the test
split and to places of the pool, and every training set that is drawn from it begins with them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from shared.errors import InvalidRequest
from shared.forget_sets import MAX_NAME, MAX_RECORDS, Kind
from shared.ml.datasets._statistics import ComputedStatistics
from shared.ml.splits import split_pretraining_and_pool
from shared.plugins import Params

_ABOUT = "that deletions name, in every training set; an audit takes them from forget"
Row = Annotated[int, Field(ge=0)]
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]


class DeletableRows(Params):
    """Of data sets whose samples are rows."""

    deletable_rows: list[Row] = Field(
        [], max_length=MAX_RECORDS, description=f"rows, from 0, {_ABOUT}"
    )


class DeletableIds(Params):
    """Of data sets with a column that names the rows."""

    deletable_ids: list[Name] = Field(
        [], max_length=MAX_RECORDS, description=f"values of the column id {_ABOUT}"
    )


class DeletableFiles(Params):
    """Of data sets whose samples are files."""

    deletable_files: list[Name] = Field(
        [], max_length=MAX_RECORDS, description=f"files below path {_ABOUT}"
    )


class Recorded(ComputedStatistics):
    """Base of data sets whose records have names. Records are numbered as the file or folder has
    them, from 0."""

    params: Params

    @property
    @abstractmethod
    def origins(self) -> Tensor:
        """The record of each sample of the train split, int64 [N]."""

    @property
    @abstractmethod
    def records(self) -> int:
        """How many records may be named: all, but for those that are given as test data."""

    def number(self, kind: Kind, name: int | str, field: str) -> int:
        """The record of that name; a row is its own number, and may not be there.

        Raises:
            InvalidRequest: there is none; or it is given as test data.
        """
        if kind != "rows" or not isinstance(name, int):
            raise InvalidRequest(f"this data set has no {kind} to name", field)
        return name

    @property
    def deletable(self) -> list[int]:
        """Places in the train split of the records that deletions may name."""
        return [self._places[number] for number in self._deletable_numbers]

    def find(self, kind: Kind, names: Sequence[int | str], field: str) -> list[int]:
        """Places in the train split of records of these names.

        Raises:
            InvalidRequest: there is no such record, or it is in the test split.
        """
        found = []
        for name in names:
            number = self.number(kind, name, field)
            _require_there(number, self.records, field)
            if number not in self._places:
                raise InvalidRequest(
                    f"{name!r} is in the test split, which is public: give the data set deletable_{kind} with it when "
                    "the base model is trained (an audit does so)",
                    field,
                )
            found.append(self._places[number])
        return found

    @cached_property
    def _places(self) -> dict[int, int]:
        return {number: place for place, number in enumerate(self.origins.tolist())}

    @cached_property
    def _deletable_numbers(self) -> list[int]:
        """Each once, in the order in which they are named."""
        found = []
        for kind in ("rows", "ids", "files"):
            name = f"deletable_{kind}"
            for one in getattr(self.params, name, ()):
                found.append(self.number(kind, one, f"params.dataset.params.{name}"))
        return list(dict.fromkeys(found))

    def _arranged(self, splits: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Splits of records, int64, with all that deletions may name at places of the pool.

        Raises:
            InvalidRequest: they are more than the pool holds.
        """
        if not self._deletable_numbers:
            return dict(splits)
        wanted = torch.tensor(sorted(self._deletable_numbers), dtype=torch.int64)
        total = sum(len(split) for split in splits.values())
        _require_there(int(wanted.max()), total, "params.dataset.params.deletable_rows")
        moved = wanted[~torch.isin(wanted, splits["train"])]
        train = torch.cat([splits["train"], moved]).sort().values
        pool, places = (
            split_pretraining_and_pool(len(train))[1],
            torch.isin(train, wanted).nonzero().flatten(),
        )
        outside, free = places[~torch.isin(places, pool)], pool[~torch.isin(pool, places)]
        if len(outside) > len(free):
            raise InvalidRequest(
                f"deletions name {len(wanted)} records, and no more than {len(pool)} of {len(train)} may be in "
                "training sets (an eighth): name fewer",
                "params.dataset",
            )
        order = torch.arange(len(train))
        order[free[: len(outside)]], order[outside] = outside, free[: len(outside)]
        return {"train": train[order], "test": splits["test"][~torch.isin(splits["test"], wanted)]}


def _require_there(number: int, records: int, field: str) -> None:
    if number >= records:
        raise InvalidRequest(
            f"there is no row {number}: the data set has {records}, counted from 0", field
        )
