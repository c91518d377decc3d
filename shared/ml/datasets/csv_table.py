"""The user's own table: one .csv file."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field

from shared.errors import InvalidRequest
from shared.forget_sets import Kind
from shared.ml.datasets import registry
from shared.ml.datasets._columns import MISSING, Column
from shared.ml.datasets._files import resolve_data_path
from shared.ml.datasets._numerals import Decimal, Notation, Thousands
from shared.ml.datasets._records import DeletableIds, DeletableRows
from shared.ml.datasets._tables import (
    PLAIN,
    EncodedTable,
    Table,
    TableDataset,
    encode_table,
    read_csv,
)
from shared.plugin_ref import data_file_field

FIELD = "params.dataset.params"
ColumnName = Annotated[str, Field(min_length=1, max_length=200)]
Columns = Annotated[list[ColumnName], Field(max_length=512)]


class CSVParams(DeletableRows, DeletableIds):
    path: Annotated[str, data_file_field()] = Field(
        min_length=1,
        max_length=500,
        description="the .csv file, inside the data root; at most 16 MiB",
    )
    target: ColumnName = Field(description="the column that holds the class")
    categorical: Columns = Field(
        [],
        description=(
            "columns whose values are categories even if they look like numbers; each is encoded "
            "one-hot"
        ),
    )
    id: ColumnName | None = Field(
        None,
        description=(
            "a column with a unique id per row, by which deletions can name rows; it is not a "
            "feature"
        ),
    )
    drop: Columns = Field(
        [], description="columns to leave out, such as a number that identifies the person"
    )
    delimiter: Literal[",", ";", "\t", "|"] = Field(
        ",", description="the character between the values of a line"
    )
    decimal: Decimal | None = Field(
        None, description="decimal sign; by default a point, and ambiguous values are refused"
    )
    thousands: Thousands | None = Field(
        None, description="thousands separator, such as ',' in 1,234.5"
    )
    missing: list[Annotated[str, Field(max_length=40)]] = Field(
        [*MISSING],
        max_length=100,
        description=(
            "values that mean 'missing', as the empty value always does; rows with missing values "
            "are refused"
        ),
    )


@registry.register("csv", params=CSVParams, input_shape=(None, 1, 1))
class CSVTable(TableDataset):
    """A .csv file: numbers scaled to [0, 1], other columns one-hot; a fifth of each class is the
    test split.

    UTF-8, its first line names the columns. Missing values, and values unlike the others of their
    column, are refused with line and column. A target that is a measurement, more than 512 features
    after encoding, and a categorical column with more than 64 values are refused too.
    """

    def __init__(self, params: CSVParams) -> None:
        super().__init__("csv", self._load_table)
        self.params: CSVParams = params

    def _load_table(self) -> EncodedTable:
        params = self.params
        notation = Notation(params.decimal, params.thousands)
        notation.require_distinct(f"{FIELD}.thousands")
        table = read_csv(
            resolve_data_path(params.path, f"{FIELD}.path"), f"{FIELD}.path", params.delimiter
        )
        wanted = (
            ("drop", params.drop),
            ("categorical", params.categorical),
            ("target", [params.target]),
            ("id", [params.id] if params.id is not None else []),
        )
        for name, columns in wanted:
            for column in columns:
                if column not in table.columns:
                    raise InvalidRequest(
                        f"{table.name} has no column {column!r}: name one of {_known(table)}",
                        f"{FIELD}.{name}",
                    )
        if params.target in params.drop:
            raise InvalidRequest(
                f"{params.target!r} is the target: it cannot be left out", f"{FIELD}.drop"
            )
        if params.target == params.id:
            raise InvalidRequest(
                f"{params.target!r} is the target: it cannot also be the id column", f"{FIELD}.id"
            )
        ids = (
            ()
            if params.id is None
            else Column(table, params.id, f"{FIELD}.id").names(params.missing)
        )
        left_out = {*params.drop, params.id}
        kept = {name: values for name, values in table.columns.items() if name not in left_out}
        kept_table = Table(kept, table.lines, table.name)
        encoded = encode_table(
            kept_table, params.target, f"{FIELD}.path", params.categorical, notation, params.missing
        )
        return encoded._replace(ids=ids)

    def number(self, kind: Kind, name: int | str, field: str) -> int:
        if kind != "ids":
            return super().number(kind, name, field)
        if self.params.id is None:
            raise InvalidRequest(
                "to name rows by ids, set the data set's parameter id to the column that holds "
                "them",
                field,
            )
        number = self._by_id.get(str(name))
        if number is None:
            raise InvalidRequest(f"no row has {name!r} in the column {self.params.id!r}", field)
        return number

    @cached_property
    def _by_id(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.encoded.ids)}


def _known(table: Table) -> str:
    # may be data, which no message repeats
    if any(PLAIN.is_numeral(name) for name in table.columns):
        return f"its {len(table.columns)} columns (does the first line hold the column names?)"
    names = ", ".join(table.columns)[:1000]
    others = [sign for sign in (";", "\t", "|", ",") if len(table.columns) == 1 and sign in names]
    return names + (f" (one column: is the delimiter {others[0]!r}?)" if others else "")
