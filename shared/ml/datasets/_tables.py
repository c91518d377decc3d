"""Tables: columns of text or numbers become features in [0, 1]. docs/data.md describes the
encoding.

A row is an image of one pixel with one channel per feature, [F, 1, 1]: see `shared.ml.samples`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, NamedTuple

import torch
from torch import Tensor

from shared.compatibility import MAX_FEATURES
from shared.data_root import describe_os_error
from shared.errors import InvalidRequest
from shared.ml.datasets._columns import MISSING, Column
from shared.ml.datasets._files import open_file
from shared.ml.datasets._numerals import Notation
from shared.ml.datasets._records import Recorded
from shared.ml.samples import Samples, Split
from shared.ml.splits import split_train_and_test

MAX_BYTES = 16 << 20  # each job reads it again: 3 s and 0.6 GB
PLAIN = Notation()


class Table(NamedTuple):
    """A table as read: `columns[name][row]` is text, `lines[row]` the line on which the row
    ended."""

    columns: Mapping[str, Sequence[str]]
    lines: Sequence[int]
    name: str = "the table"  # used in messages


class EncodedTable(NamedTuple):
    """`samples` with images float32 [N, F, 1, 1] in [0, 1], and the names of features and
    classes."""

    samples: Samples
    features: tuple[str, ...]
    classes: tuple[str, ...]
    ids: tuple[str, ...] = ()  # of the rows, if a column names them


def read_csv(path: Path, field: str, delimiter: str = ",") -> Table:
    """The table of a UTF-8 file of the data root whose first line names the columns.

    Raises:
        InvalidRequest: above 16 MiB, no such file, a line of another length than the first, or no
            line of names.
    """
    with open_file(path, field, max_bytes=MAX_BYTES) as raw:
        return parse_csv(raw, path.name, field, delimiter)


def parse_csv(raw: BinaryIO, name: str, field: str, delimiter: str = ",") -> Table:
    """The table in UTF-8 bytes, as `read_csv` reads it; `name` is used in messages."""
    try:
        data = raw.read()
    except OSError as error:
        raise InvalidRequest(f"{name} cannot be read: {describe_os_error(error)}", field) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidRequest(
            f"{name}: line {line} is not UTF-8 text: save the file in UTF-8", field
        ) from error
    rows = _read_rows(
        csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), name, field
    )
    _, names = next(rows, (1, []))
    _require_names(names, name, field)
    lines, read = [], []
    for line, row in rows:
        if len(row) != len(names):
            raise InvalidRequest(
                f"{name}: line {line} has {len(row)} values, but the first line has {len(names)}: "
                f"put values that contain the delimiter {delimiter!r} in quotes, or set another "
                "delimiter",
                field,
            )
        lines.append(line)
        read.append(row)
    columns = {column: [row[place] for row in read] for place, column in enumerate(names)}
    return Table(columns, lines, name)


def _require_names(names: Sequence[str], file: str, field: str) -> None:
    """Require distinct column names. The first line may be data, so messages do not repeat it.

    Raises:
        InvalidRequest: a name is empty or occurs twice, or all are numbers (except 0, 1, 2, ...).
    """
    if not names:
        raise InvalidRequest(f"{file} is empty: the first line must name the columns", field)
    if [*names] != [str(place) for place in range(len(names))] and all(
        PLAIN.is_numeral(name) for name in names
    ):
        raise InvalidRequest(
            f"{file}: the first line must name the columns, but holds only numbers: add a header "
            "line",
            field,
        )
    places: dict[str, int] = {}
    for place, name in enumerate(names, start=1):
        if not name:
            raise InvalidRequest(
                f"{file}: column {place} has no name in the first line: name it, or write the "
                "file without it (pandas: to_csv(index=False))",
                field,
            )
        if places.setdefault(name, place) != place:
            raise InvalidRequest(
                f"{file}: columns {places[name]} and {place} have the same name: column names must "
                "be unique",
                field,
            )


def _read_rows(
    reader: Iterator[list[str]], name: str, field: str
) -> Iterator[tuple[int, list[str]]]:
    """The line on which each row ended, and its stripped values; empty lines are skipped."""
    line = 0
    try:
        for row in reader:
            line = reader.line_num  # type: ignore[attr-defined]  # typed too widely
            if row:
                yield line, [value.strip() for value in row]
    except csv.Error as error:
        raise InvalidRequest(
            f"{name} cannot be parsed as CSV after line {line}: {error}", field
        ) from error


def encode_table(
    table: Table,
    target: str,
    field: str,
    categorical: Collection[str] = (),
    notation: Notation = PLAIN,
    missing: Collection[str] = MISSING,
) -> EncodedTable:
    """Encode a table: numeric columns scaled to [0, 1] from minimum to maximum, others one-hot.

    Features are in the order of the columns, those of one column in the order of its sorted values;
    classes are the sorted values of `target`.

    Args:
        categorical: columns whose values are names, taken literally even if they look like numbers.
        missing: values that mean "missing", besides the empty one.

    Raises:
        InvalidRequest: a value is missing or unlike the others of its column (names line and
            column), a categorical column has more than 64 values, there are fewer than ten rows or
            two classes, the target is a measurement, or there are more than 512 features or 1000
            classes.
    """
    if len(table.lines) < 10:
        raise InvalidRequest(
            f"{table.name}: a table needs at least ten rows, but this one has {len(table.lines)}",
            field,
        )
    columns = {name: Column(table, name, field) for name in table.columns}
    for column in columns.values():
        column.require_complete(missing)
    literal = {*categorical}
    classes = columns[target].classes(notation, target in literal)
    features: list[Tensor] = []
    names: list[str] = []
    for name, column in columns.items():
        if name == target:
            continue
        numbers = None if name in literal else column.numbers(notation)
        if numbers is not None:
            low, high = numbers.min(), numbers.max()
            features.append((numbers - low) / (high - low).clamp_min(1e-30))
            names.append(name)
            continue
        categories = column.kinds(notation, name in literal)
        features += [
            torch.tensor([float(value == kind) for value in column.values]) for kind in categories
        ]
        names += [f"{name} = {kind}" for kind in categories]
        if len(names) > MAX_FEATURES:
            break
    if not 1 <= len(names) <= MAX_FEATURES:
        raise InvalidRequest(
            f"{table.name}: a table needs 1 to {MAX_FEATURES} features, but this one has "
            f"{len(names)} or more: leave columns out (drop)",
            field,
        )
    images = torch.stack(features, 1).float()[:, :, None, None]
    class_indices = {value: place for place, value in enumerate(classes)}
    labels = torch.tensor([class_indices[value] for value in table.columns[target]])
    return EncodedTable(Samples(images, labels), tuple(names), classes)


class TableDataset(Recorded):
    """A data set of one encoded table, read on first use."""

    def __init__(self, name: str, read: Callable[[], EncodedTable]) -> None:
        self._name, self._read = name, read

    @cached_property
    def encoded(self) -> EncodedTable:
        return self._read()

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return len(self.encoded.features), 1, 1

    @property
    def num_classes(self) -> int:
        return len(self.encoded.classes)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The values of the target."""
        return self.encoded.classes

    def load(self, split: Split) -> Samples:
        """The split.

        Raises:
            InvalidRequest: the table is not available, or `encode_table` refuses it.
        """
        return self.encoded.samples.pick(self._rows[split])

    @cached_property
    def _rows(self) -> dict[str, Tensor]:
        return self._arrange(
            split_train_and_test(self.encoded.samples.labels, f"{self._name} test")
        )

    @property
    def origins(self) -> Tensor:
        """The row of the table of each training sample."""
        return self._rows["train"]

    @property
    def records(self) -> int:
        return len(self.encoded.samples.labels)
