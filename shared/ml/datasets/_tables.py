"""Tables: columns of text or numbers become features in [0, 1]. docs/data.md tells the encoding.

A row is an image of one pixel with a channel a feature, [F, 1, 1]: see `shared.ml.samples`.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, NamedTuple

import torch
from torch import Tensor

from shared.errors import InvalidRequest
from shared.fit import MAX_FEATURES
from shared.ml.datasets._files import open_file
from shared.ml.datasets._measured import Measured
from shared.ml.samples import Samples, Split
from shared.ml.splits import train_and_test

MAX_BYTES = 16 << 20  # read anew by each job: in 3 s, with 0.6 GB
MAX_VALUES = 64  # of a column that is not numbers: each becomes a feature
MAX_CLASSES = 1000
MISSING = frozenset({"", "?", "na", "n/a", "nan", "null"})


class Table(NamedTuple):
    """A table as read: `columns[name][row]` is text, `lines[row]` the line of the file that the row stood in."""

    columns: Mapping[str, Sequence[str]]
    lines: Sequence[int]


class Encoded(NamedTuple):
    """`samples` with images float32 [N, F, 1, 1] in [0, 1], and what the features and classes are called."""

    samples: Samples
    features: tuple[str, ...]
    classes: tuple[str, ...]


def read_csv(path: Path, field: str, delimiter: str = ",") -> Table:
    """The table of a UTF-8 file of the data root whose first line names the columns.

    Raises:
        InvalidRequest: above 16 MiB, no such file, a line of another length than the first, or names that repeat.
    """
    with open_file(path, field, max_bytes=MAX_BYTES) as raw:
        return parse_csv(raw, path.name, field, delimiter)


def parse_csv(raw: BinaryIO, name: str, field: str, delimiter: str = ",") -> Table:
    """The table in UTF-8 bytes, as `read_csv` reads it; `name` is what messages call it."""
    try:
        with io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as file:
            rows = _rows(csv.reader(file, delimiter=delimiter, strict=True), name, field)
            _, names = next(rows, (1, []))
            if not names or len(set(names)) < len(names) or "" in names:
                raise InvalidRequest(
                    f"{name}: the first line must name each column once, got {names[:10]!s:.200}", field
                )
            lines, read = [], []
            for line, row in rows:
                if len(row) != len(names):
                    raise InvalidRequest(
                        f"{name}: line {line} has {len(row)} values, the first line {len(names)}", field
                    )
                lines.append(line)
                read.append(row)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{name} cannot be read as UTF-8 text: {error}", field) from error
    return Table({column: [row[place] for row in read] for place, column in enumerate(names)}, lines)


def _rows(reader: Iterator[list[str]], name: str, field: str) -> Iterator[tuple[int, list[str]]]:
    """The line on which each row ended, and its values without blanks around; empty lines are left out."""
    try:
        for row in reader:
            if row:
                yield reader.line_num, [value.strip() for value in row]  # type: ignore[attr-defined]  # typed too widely
    except csv.Error as error:
        raise InvalidRequest(f"{name} is not a table of comma-separated values: {error}", field) from error


def encode(table: Table, target: str, field: str, categorical: Collection[str] = ()) -> Encoded:
    """Every column of numbers scaled from its least to its greatest value to [0, 1], every other one-hot.

    Features stand in the order of the columns, those of one column in the order of its sorted values; classes are
    the sorted values of `target`.

    Args:
        categorical: columns that are one-hot though they hold numbers.

    Raises:
        InvalidRequest: a value is missing (names line and column), a column that is not numbers has more than 64
            values, there are fewer than ten rows or two classes, or more than 512 features or 1000 classes.
    """
    if len(table.lines) < 10:
        raise InvalidRequest(f"a table needs at least ten rows, this one has {len(table.lines)}", field)
    for name, values in table.columns.items():
        _complete(name, values, table.lines, field)
    classes = _in_order(table.columns[target])
    if not 2 <= len(classes) <= MAX_CLASSES:
        raise InvalidRequest(
            f"{target!r} must hold 2 to {MAX_CLASSES} classes, it has {len(classes)} different values", field
        )
    features: list[Tensor] = []
    names: list[str] = []
    for name, values in table.columns.items():
        if name == target:
            continue
        numbers = None if name in categorical else _numbers(name, values, table.lines, field)
        if numbers is not None:
            low, high = numbers.min(), numbers.max()
            features.append((numbers - low) / (high - low).clamp_min(1e-30))
            names.append(name)
            continue
        kinds = _in_order(values)
        if len(kinds) > MAX_VALUES:
            raise InvalidRequest(
                f"column {name!r} has {len(kinds)} different values that are not all numbers (line {table.lines[0]}: "
                f"{values[0]!r}), at most {MAX_VALUES} are encoded: leave it out, or write numbers",
                field,
            )
        features += [torch.tensor([float(value == kind) for value in values]) for kind in kinds]
        names += [f"{name} = {kind}" for kind in kinds]
        if len(names) > MAX_FEATURES:
            break
    if not 1 <= len(names) <= MAX_FEATURES:
        raise InvalidRequest(f"a table needs 1 to {MAX_FEATURES} features, this one has {len(names)} or more", field)
    images = torch.stack(features, 1).float()[:, :, None, None]
    places = {value: place for place, value in enumerate(classes)}
    labels = torch.tensor([places[value] for value in table.columns[target]])
    return Encoded(Samples(images, labels), tuple(names), classes)


def _in_order(values: Sequence[str]) -> tuple[str, ...]:
    """The different values, sorted as numbers where they all are."""
    kinds = set(values)
    try:
        return tuple(sorted(kinds, key=lambda kind: (float(kind), kind)))
    except ValueError:
        return tuple(sorted(kinds))


def _complete(name: str, values: Sequence[str], lines: Sequence[int], field: str) -> None:
    for line, value in zip(lines, values, strict=True):
        if value.lower() in MISSING:
            raise InvalidRequest(
                f"line {line}, column {name!r}: a value is missing ({value!r}); fill it in, or leave out the row or "
                "the column",
                field,
            )


def _numbers(name: str, values: Sequence[str], lines: Sequence[int], field: str) -> Tensor | None:
    """The column in float64, or None where some value is no number."""
    try:
        found = [float(value) for value in values]
    except ValueError:
        return None
    for line, value in zip(lines, found, strict=True):
        if not math.isfinite(value) or abs(value) > 1e15:
            raise InvalidRequest(f"line {line}, column {name!r}: {value} is not a number from -1e15 to 1e15", field)
    return torch.tensor(found, dtype=torch.float64)


class Tabular(Measured):
    """A data set that is one encoded table, read when first asked for."""

    def __init__(self, name: str, read: Callable[[], Encoded]) -> None:
        self._name, self._read = name, read

    @cached_property
    def encoded(self) -> Encoded:
        return self._read()

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return len(self.encoded.features), 1, 1

    @property
    def num_classes(self) -> int:
        return len(self.encoded.classes)

    def load(self, split: Split) -> Samples:
        """The split.

        Raises:
            InvalidRequest: the table cannot be had, or is not as `encode` wants it.
        """
        samples = self.encoded.samples
        return samples.pick(train_and_test(samples.labels, f"{self._name} test")[split])
