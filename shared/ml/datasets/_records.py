"""Records that deletions can name: rows of a file, values of its id column, files of a folder.

A record to be forgotten must be in the pool, which no base model has seen, and in the training set.
So the data set gets their names (`deletable_rows` and so on), moves them out of the test split into
the pool, and every training set drawn from it starts with them.
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
from shared.ml.splits import draw_default_pool
from shared.plugins import Params

_ABOUT = (
    "that deletions name; their samples are in every training set. An audit fills this in from its "
    "field forget"
)
Row = Annotated[int, Field(ge=0)]
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]


class DeletableRows(Params):
    """Parameters of data sets whose samples are rows."""

    deletable_rows: list[Row] = Field(
        [], max_length=MAX_RECORDS, description=f"rows, from 0, {_ABOUT}"
    )


class DeletableIds(Params):
    """Parameters of data sets with a column that names the rows."""

    deletable_ids: list[Name] = Field(
        [], max_length=MAX_RECORDS, description=f"values of the id column {_ABOUT}"
    )


class DeletableFiles(Params):
    """Parameters of data sets whose samples are files."""

    deletable_files: list[Name] = Field(
        [], max_length=MAX_RECORDS, description=f"files below path {_ABOUT}"
    )


class Recorded(ComputedStatistics):
    """Base class of data sets with named records. Records are numbered from 0, in the order of the
    file or folder."""

    params: Params

    @property
    @abstractmethod
    def origins(self) -> Tensor:
        """The record of each sample of the train split, int64 [N]."""

    @property
    @abstractmethod
    def records(self) -> int:
        """How many records can be named: all except the user's own test data."""

    def number(self, kind: Kind, name: int | str, field: str) -> int:
        """The number of the record with that name; a row is its own number, and may not exist.

        Raises:
            InvalidRequest: there is none, or it is test data.
        """
        if kind != "rows" or not isinstance(name, int):
            raise InvalidRequest(f"samples of this data set cannot be named by {kind}", field)
        return name

    @property
    def deletable(self) -> list[int]:
        """Positions in the train split of the records that deletions may name."""
        return [self._places[number] for number in self._deletable_numbers]

    def find(self, kind: Kind, names: Sequence[int | str], field: str) -> list[int]:
        """Positions in the train split of the records with these names.

        Raises:
            InvalidRequest: there is no such record, or it is in the test split.
        """
        places = []
        for name in names:
            number = self.number(kind, name, field)
            _require_there(number, self.records, field)
            if number not in self._places:
                raise InvalidRequest(
                    f"{name!r} is in the test split, which is public: add it to the data set's "
                    f"parameter deletable_{kind} when training the base model (an audit does this "
                    "automatically)",
                    field,
                )
            places.append(self._places[number])
        return places

    @cached_property
    def _places(self) -> dict[int, int]:
        return {number: place for place, number in enumerate(self.origins.tolist())}

    @cached_property
    def _deletable_numbers(self) -> list[int]:
        """Record numbers without duplicates, in the order of their names."""
        numbers = []
        for kind in ("rows", "ids", "files"):
            name = f"deletable_{kind}"
            for one in getattr(self.params, name, ()):
                numbers.append(self.number(kind, one, f"params.dataset.params.{name}"))
        return list(dict.fromkeys(numbers))

    def _arrange(self, splits: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rearrange splits of records, int64, so that records that deletions may name are in the
        train split, and as many as fit in its default pool.

        Raises:
            InvalidRequest: one does not exist.
        """
        if not self._deletable_numbers:
            return dict(splits)
        wanted = torch.tensor(sorted(self._deletable_numbers), dtype=torch.int64)
        total = sum(len(split) for split in splits.values())
        _require_there(int(wanted.max()), total, "params.dataset.params.deletable_rows")
        moved = wanted[~torch.isin(wanted, splits["train"])]
        train = torch.cat([splits["train"], moved]).sort().values
        pool, places = draw_default_pool(len(train)), torch.isin(train, wanted).nonzero().flatten()
        outside, free = places[~torch.isin(places, pool)], pool[~torch.isin(pool, places)]
        moves = min(len(outside), len(free))
        outside, free = outside[:moves], free[:moves]
        order = torch.arange(len(train))
        order[free], order[outside] = outside, free
        return {"train": train[order], "test": splits["test"][~torch.isin(splits["test"], wanted)]}


def _require_there(number: int, records: int, field: str) -> None:
    if number >= records:
        raise InvalidRequest(
            f"there is no row {number}: the data set has {records} rows, counted from 0", field
        )
