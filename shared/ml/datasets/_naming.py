"""Names of classes: their natural order, and different names that look the same."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_DIGITS = re.compile("([0-9]+)")


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that orders numbers within names as numbers: 1, 2, 10; a2 before a10."""
    parts = enumerate(_DIGITS.split(name))  # numbers are at odd positions
    return (
        *(_number_key(part) if place % 2 else (1, 0, part) for place, part in parts),
        (1, 0, name),
    )


def _number_key(digits: str) -> tuple[int, int, str]:
    significant = digits.lstrip("0")  # not int(): it may have thousands of digits
    return 0, len(significant), significant


def normalise_name(name: str) -> str:
    """Normalise what is easily overlooked in a name: case, Unicode form and whitespace."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def find_lookalikes(names: Iterable[str]) -> tuple[str, str] | None:
    """Two different names that `normalise_name` makes equal."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(normalise_name(name), name)
        if other != name:
            return other, name
    return None
