"""How numbers are written in a table, and what only looks like a number.

Numerals that are not in the stated notation are never guessed: `1,5` could be one and a half or a
code, `0123` a number or a postal code, `5E2` five hundred or a room.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from shared.errors import InvalidRequest

Decimal = Literal[".", ","]
Thousands = Literal[",", ".", " ", "'"]
_SPACES = " \u00a0\u2009\u202f"
_GROUPS = {",": ",", ".": r"\.", " ": f"[{_SPACES}]", "'": "['\u2019]"}
MAX_NUMBER = 1e15  # beyond, float64 has no room for units

_SIGN = "[-+\u2212\u2013]?"
_UNIT = "[%\u2030$\u20ac\u00a3\u00a5]?"
_GROUPED = f"[0-9]{{1,3}}(?:[.,'\u2019{_SPACES}][0-9]{{3}})+(?:[.,][0-9]+)?"
_ANY = re.compile(
    rf"{_SIGN}\s*{_UNIT}\s*{_SIGN}(?:{_GROUPED}|[0-9]*[.,][0-9]+|[1-9][0-9]*[.,]?|0)\s*{_UNIT}"
)


@dataclass(frozen=True)
class Notation:
    """The decimal sign and the thousands separator, if any. `decimal` None: not stated, a point."""

    decimal: Decimal | None = None
    thousands: Thousands | None = None

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        point = re.escape(self.decimal or ".")
        whole = "(?:0|[1-9][0-9]*)"
        if self.thousands is not None:
            whole = f"(?:0|[1-9][0-9]{{0,2}}(?:{_GROUPS[self.thousands]}[0-9]{{3}})+|[1-9][0-9]*)"
        # an exponent needs a sign or a decimal point before it: 5E2 is a code
        return re.compile(
            rf"[-+]?(?:(?:{whole}(?:{point}[0-9]*)?|{point}[0-9]+)(?:[eE][-+][0-9]{{1,3}})?"
            rf"|{whole}{point}[0-9]+[eE][0-9]{{1,3}})"
        )

    def number(self, text: str) -> float | None:
        """The number in this notation, or None."""
        if not self._pattern.fullmatch(text):
            return None
        if self.thousands is not None:
            text = re.sub(_GROUPS[self.thousands], "", text)
        value = float(text.replace(",", "."))
        return value if math.isfinite(value) and abs(value) <= MAX_NUMBER else None

    def is_numeral(self, text: str) -> bool:
        """Whether it is a number, perhaps in another notation or with a unit."""
        return bool(self._pattern.fullmatch(text) or _ANY.fullmatch(text))

    def is_ambiguous(self, texts: set[str]) -> bool:
        """Whether a point could be the decimal sign or separate thousands, as in 900 and 1.234."""
        if self.decimal is not None or self.thousands == ".":
            return False
        grouped = re.compile(r"[-+]?[1-9][0-9]{0,2}(\.[0-9]{3})+")
        whole = re.compile(r"[-+]?(0|[1-9][0-9]{0,2})")
        points = [bool(grouped.fullmatch(text)) for text in texts if not whole.fullmatch(text)]
        return bool(points) and all(points) and len(points) < len(texts)

    def require_distinct(self, field: str) -> None:
        """Refuse the same sign for both.

        Raises:
            InvalidRequest: decimal and thousands are the same.
        """
        if self.thousands == (self.decimal or "."):
            raise InvalidRequest(
                f"{self.thousands!r} cannot be both the thousands separator and the decimal sign: "
                "set the parameter decimal to the other one",
                field,
            )
