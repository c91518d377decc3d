"""A table of one's own: one .csv file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from shared.choices import data_file
from shared.errors import InvalidRequest
from shared.ml.datasets import registry
from shared.ml.datasets._files import inside
from shared.ml.datasets._tables import Encoded, Table, Tabular, encode, read_csv
from shared.plugins import Params

FIELD = "params.dataset.params"
Column = Annotated[str, Field(min_length=1, max_length=200)]
Columns = Annotated[list[Column], Field(max_length=512)]


class CSVParams(Params):
    path: Annotated[str, data_file()] = Field(
        min_length=1, max_length=500, description="the .csv file, inside the data root; at most 16 MiB"
    )
    target: Column = Field(description="the column that holds the class")
    categorical: Columns = Field([], description="columns of numbers that are names of kinds, and so become one-hot")
    drop: Columns = Field([], description="columns to leave out, as a number that names the person")
    delimiter: Literal[",", ";", "\t", "|"] = Field(",", description="what stands between the values of a line")


@registry.register("csv", params=CSVParams, input_shape=(None, 1, 1))
class CSVTable(Tabular):
    """A .csv file: numbers scaled to [0, 1], other columns one-hot; a fifth of each class is the test split.

    UTF-8, its first line names the columns. Refused, with line and column: a value that is missing. Refused, too:
    more than 512 features after encoding, a column that is not numbers with more than 64 values.
    """

    def __init__(self, params: CSVParams) -> None:
        super().__init__("csv", self._own)
        self.params = params

    def _own(self) -> Encoded:
        params = self.params
        table = read_csv(inside(params.path, f"{FIELD}.path"), f"{FIELD}.path", params.delimiter)
        for name, columns in (("drop", params.drop), ("categorical", params.categorical), ("target", [params.target])):
            for column in columns:
                if column not in table.columns:
                    known = ", ".join(table.columns)
                    raise InvalidRequest(f"there is no column {column!r}; there are {known:.1000}", f"{FIELD}.{name}")
        if params.target in params.drop:
            raise InvalidRequest(f"{params.target!r} is the target: it cannot be left out", f"{FIELD}.drop")
        kept = {name: values for name, values in table.columns.items() if name not in params.drop}
        return encode(Table(kept, table.lines), params.target, f"{FIELD}.path", params.categorical)
