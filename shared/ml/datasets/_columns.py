"""One column of a table: numbers, categories or classes; values unlike the rest are refused by line
and column.

Messages never repeat a value: it is private.
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
MAX_VALUES = 64  # of a categorical column: each becomes a feature
MAX_CLASSES = 1000
FEW = 20  # up to this many different numbers are accepted as classes
HALVES = 10  # up to this many different fractional numbers are accepted as classes
_LITERAL = "list the column in categorical if its values are categories"


class Columns(Protocol):
    """The table of a column."""

    @property
    def columns(self) -> Mapping[str, Sequence[str]]: ...
    @property
    def lines(self) -> Sequence[int]: ...
    @property
    def name(self) -> str: ...


class Column:
    """A column by name. Errors name the parameter `field`."""

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
                "; if it is a valid value, remove it from the parameter missing" if word else ""
            )
            raise self._refusal(
                row, f"{what}: fill it in, remove the row, or leave the column out (drop){way_out}"
            )

    def names(self, missing: Collection[str]) -> tuple[str, ...]:
        """The values as row names.

        Raises:
            InvalidRequest: one is missing, or two are equal.
        """
        self.require_complete(missing)
        seen: dict[str, int] = {}
        for row, value in enumerate(self.values):
            if (first := seen.setdefault(value, row)) != row:
                raise self._refusal(
                    row, (
                        f"has the same id as line {self._lines[first]}: ids must be unique, and "
                        "each person must be in the data only once"
                    )
                )  # fmt: skip
        return tuple(self.values)

    def numbers(self, notation: Notation) -> Tensor | None:
        """The column in float64, or None where no value is a number.

        Raises:
            InvalidRequest: only some are numbers, or they are not in this notation, or the notation
                is ambiguous.
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
                    "the point could be a decimal sign or a thousands separator: set decimal: "
                    "'.', or thousands: '.' and decimal: ','",
                )
            return torch.tensor([by_text[text] for text in self.values], dtype=torch.float64)
        if len(numerals) == len(self._different):
            row = self._first(lambda value: by_text[value] is None)
            raise self._refusal(
                row,
                "not a number from -1e15 to 1e15 with a decimal point and without separators or "
                f"units: set the parameters decimal and thousands, remove the unit, or {_LITERAL}",
            )
        words = [value not in numerals for value in self.values]
        odd_is_word = sum(words) <= len(words) / 2
        row = self._first(lambda value: (value not in numerals) == odd_is_word)
        what = (
            "not a number, but most of the column is numeric"
            if odd_is_word
            else "a number, but most of the column is not numeric"
        )
        raise self._refusal(
            row, f"{what}: correct it, or {_LITERAL} (codes such as 0123 or 5E2 are not numbers)"
        )

    def kinds(self, notation: Notation, literal: bool) -> tuple[str, ...]:
        """The distinct values, sorted (as numbers, if all are).

        Raises:
            InvalidRequest: more than 64; or, unless `literal`, two that look the same.
        """
        if len(self._different) > MAX_VALUES:
            raise InvalidRequest(
                f"{self._file}: column {self._quoted_name} has {len(self._different)} different "
                f"values that are not numbers, but at most {MAX_VALUES} can be encoded: leave it "
                "out (drop), or replace them with numbers",
                self._field,
            )
        if not literal:
            self._require_one_spelling()
        by_text = {text: notation.number(text) for text in self._different}
        if None in by_text.values():
            return tuple(sorted(self._different))
        return tuple(sorted(self._different, key=lambda text: (by_text[text], text)))

    def classes(self, notation: Notation, literal: bool) -> tuple[str, ...]:
        """The distinct values of a target, in natural order (as numbers, if all are).

        Raises:
            InvalidRequest: fewer than 2 or more than 1000; or, unless `literal`, only some are
                numbers, one class is written in two ways, or they look like measurements or row
                names.
        """
        count = len(self._different)
        if not literal:
            numbers = self.numbers(notation)
            if numbers is not None:
                self._require_classes(numbers)
            elif count > FEW and count > len(self.values) / 2:
                raise InvalidRequest(
                    f"{self._file}: the target {self._quoted_name} has {count} different values in "
                    f"{len(self.values)} rows, which look like row names, not classes: name "
                    f"another target, or {_LITERAL} of classes",
                    self._field,
                )
            self._require_one_spelling()
        if not 2 <= count <= MAX_CLASSES:
            raise InvalidRequest(
                f"{self._file}: the target {self._quoted_name} must have 2 to {MAX_CLASSES} "
                f"classes, but has {count} different value{'s' * (count != 1)}",
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
                        row, (
                            f"the same number is written differently on line {first} (such as 1 "
                            f"and 1.0): write it the same way everywhere, or {_LITERAL}"
                        )
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
                f"{self._file}: the target {self._quoted_name} has {count} different numbers, "
                "which look like measurements (a regression), but only "
                f"classification can be audited: group them into a few classes, or {_LITERAL} of "
                "classes",
                self._field,
            )

    def _require_one_spelling(self) -> None:
        lookalikes = find_lookalikes(dict.fromkeys(self.values))
        if lookalikes is None:
            return
        first, row = (self.values.index(text) for text in lookalikes)
        raise self._refusal(
            row,
            f"differs from line {self._lines[first]} only in case, blanks or Unicode form: write "
            "both the same way, or list the column in categorical if they are two categories",
        )

    @cached_property
    def _different(self) -> frozenset[str]:
        return frozenset(self.values)

    @property
    def _quoted_name(self) -> str:
        return repr(self._name[:60])

    def _first(self, wanted: Callable[[str], bool]) -> int | None:
        return next((row for row, value in enumerate(self.values) if wanted(value)), None)

    def _refusal(self, row: int | None, reason: str) -> InvalidRequest:
        where = "" if row is None else f"line {self._lines[row]}, "
        return InvalidRequest(
            f"{self._file}: {where}column {self._quoted_name}: {reason}", self._field
        )
