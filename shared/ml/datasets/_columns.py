"""One column of a table: numbers, names of kinds, or classes; what is unlike the rest is refused by
line and column.

Messages never repeat a value: it is someone's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from shared.errors import InvalidRequest
from shared.ml.datasets._naming import find_lookalikes, natural_key
from shared.ml.datasets._numerals import Notation

MISSING = ("NA", "na", "N/A", "n/a", "NaN", "nan", "NAN", "null", "NULL", "Null", "?")
MAX_VALUES = 64  # of a column that is not numbers: each becomes a feature
MAX_CLASSES = 1000
FEW = 20  # different numbers that may be classes whatever they are
HALVES = 10  # different numbers that may be classes though they are not whole
_LITERAL = "name the column in categorical if its values are names"


class Columns(Protocol):
    """The table that a column is of."""

    @property
    def columns(self) -> Mapping[str, Sequence[str]]: ...
    @property
    def lines(self) -> Sequence[int]: ...
    @property
    def name(self) -> str: ...


class Column:
    """A column by name. `field` is the parameter that messages are about."""

    def __init__(self, table: Columns, name: str, field: str) -> None:
        self.values = table.columns[name]
        self._lines, self._file, self._name, self._field = table.lines, table.name, name, field

    def require_complete(self, missing: Collection[str]) -> None:
        """
        Raises:
            InvalidRequest: a value is empty, or among `missing`.
        """
        words = {"", *missing}
        if (row := self._first(lambda value: value in words)) is not None:
            word = self.values[row]
            what = (
                f"a value is missing ({word!r} counts as missing)" if word else "a value is missing"
            )
            way_out = (
                "; or, if it is a value, give the parameter missing without it" if word else ""
            )
            raise self._refusal(
                row, f"{what}: fill it in, or leave out the row, or the column (drop){way_out}"
            )

    def names(self, missing: Collection[str]) -> tuple[str, ...]:
        """The values as names of the rows.

        Raises:
            InvalidRequest: one is missing, or two are the same.
        """
        self.require_complete(missing)
        seen: dict[str, int] = {}
        for row, value in enumerate(self.values):
            if (first := seen.setdefault(value, row)) != row:
                raise self._refusal(
                    row, f"names its row as line {self._lines[first]} does: ids must differ, and the data must hold "
                    "each person once"
                )  # fmt: skip
        return tuple(self.values)

    def numbers(self, notation: Notation) -> Tensor | None:
        """The column in float64, or None where no value is a number.

        Raises:
            InvalidRequest: some are numbers and some are not, or not in this notation, or it is not
                clear which.
        """
        by_text = {text: notation.number(text) for text in self._different}
        numerals = {text for text in self._different if notation.is_numeral(text)}
        if not numerals:
            return None
        if None not in by_text.values():
            if notation.is_ambiguous(numerals):
                row = self._first(lambda value: "." in value)
                raise self._refusal(
                    row,
                    "the point may be a decimal sign or separate thousands: give decimal: '.', or thousands: '.' "
                    "and decimal: ','",
                )
            return torch.tensor([by_text[text] for text in self.values], dtype=torch.float64)
        if len(numerals) == len(self._different):
            row = self._first(lambda value: by_text[value] is None)
            raise self._refusal(
                row,
                "not a number from -1e15 to 1e15 with a decimal point and without separators or units: give the "
                f"parameters decimal and thousands, take off the unit, or {_LITERAL}",
            )
        words = [value not in numerals for value in self.values]
        odd_is_word = sum(words) <= len(words) / 2
        row = self._first(lambda value: (value not in numerals) == odd_is_word)
        what = (
            "not a number, and most of the column is"
            if odd_is_word
            else "a number, and most of the column is not"
        )
        raise self._refusal(
            row, f"{what}: correct it, or {_LITERAL} (codes such as 0123 or 5E2 are no numbers)"
        )

    def kinds(self, notation: Notation, literal: bool) -> tuple[str, ...]:
        """The different values, sorted, as numbers where they all are.

        Raises:
            InvalidRequest: more than 64, or, unless they are `literal`, two that people would take
                for one.
        """
        if len(self._different) > MAX_VALUES:
            raise InvalidRequest(
                f"{self._file}: column {self._told} has {len(self._different)} different values that are not numbers, "
                f"at most {MAX_VALUES} are encoded: leave it out (drop), or write numbers",
                self._field,
            )
        if not literal:
            self._require_one_spelling()
        by_text = {text: notation.number(text) for text in self._different}
        if None in by_text.values():
            return tuple(sorted(self._different))
        return tuple(sorted(self._different, key=lambda text: (by_text[text], text)))

    def classes(self, notation: Notation, literal: bool) -> tuple[str, ...]:
        """The different values of a target, in natural order, or as numbers where they all are.

        Raises:
            InvalidRequest: fewer than 2 or more than 1000; or, unless they are `literal`, some are
                numbers and some are not, two are one class written in two ways, or they are
                measurements or names of rows.
        """
        count = len(self._different)
        if not literal:
            numbers = self.numbers(notation)
            if numbers is not None:
                self._require_classes(numbers)
            elif count > FEW and count > len(self.values) / 2:
                raise InvalidRequest(
                    f"{self._file}: the target {self._told} has {count} different values in {len(self.values)} rows: "
                    f"that looks like names of rows, not classes; name another target, or {_LITERAL} of classes",
                    self._field,
                )
            self._require_one_spelling()
        if not 2 <= count <= MAX_CLASSES:
            raise InvalidRequest(
                f"{self._file}: the target {self._told} must hold 2 to {MAX_CLASSES} classes, it has {count} "
                f"different value{'s' * (count != 1)}",
                self._field,
            )
        by_text = {text: notation.number(text) for text in self._different}
        if None in by_text.values():
            return tuple(sorted(self._different, key=natural_key))
        return tuple(sorted(self._different, key=lambda text: (by_text[text], text)))

    def _require_classes(self, numbers: Tensor) -> None:
        different = numbers.unique()
        if len(different) < len(self._different):
            seen: dict[float, str] = {}
            for row, (value, text) in enumerate(zip(numbers.tolist(), self.values, strict=True)):
                if seen.setdefault(value, text) != text:
                    first = self._lines[self.values.index(seen[value])]
                    raise self._refusal(
                        row, f"the same number is written in another way on line {first} (as 1 and 1.0): write it in "
                        f"one way, or {_LITERAL}"
                    )  # fmt: skip
        count, low = len(different), int(different[0])
        whole = bool((different == different.round()).all())
        numbered = (
            whole
            and low in (0, 1)
            and int(different[-1]) - low == count - 1
            and count * 5 <= len(numbers)
        )
        if not numbered and count > (FEW if whole else HALVES):
            raise InvalidRequest(
                f"{self._file}: the target {self._told} has {count} different numbers from least to greatest: that "
                "looks like a measurement (a regression), and only classes are audited; put it into a few classes, or "
                f"{_LITERAL} of classes",
                self._field,
            )

    def _require_one_spelling(self) -> None:
        found = find_lookalikes(dict.fromkeys(self.values))
        if found is None:
            return
        first, row = (self.values.index(text) for text in found)
        raise self._refusal(
            row,
            f"differs from line {self._lines[first]} only in case, blanks or Unicode form: write both in one way, or "
            "name the column in categorical if they are two",
        )

    @cached_property
    def _different(self) -> frozenset[str]:
        return frozenset(self.values)

    @property
    def _told(self) -> str:
        return repr(self._name[:60])

    def _first(self, wanted: Callable[[str], bool]) -> int | None:
        return next((row for row, value in enumerate(self.values) if wanted(value)), None)

    def _refusal(self, row: int | None, why: str) -> InvalidRequest:
        where = "" if row is None else f"line {self._lines[row]}, "
        return InvalidRequest(f"{self._file}: {where}column {self._told}: {why}", self._field)
