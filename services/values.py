"""How values of parameters are written as text, in options of the command line and in fields of a
form: JSON where it is JSON, else the text itself."""

from __future__ import annotations

import json
from typing import Any, NoReturn


def parse_value(text: str) -> Any:
    """Parse JSON, or a number as Python reads it, or else return the text itself."""
    try:
        parsed = json.loads(text, parse_constant=_reject_constant)
        json.dumps(parsed, allow_nan=False)  # 1e999 is JSON, and infinite
        return parsed
    except (ValueError, RecursionError):
        pass
    try:
        number = float(text)
    except ValueError:
        return text
    return number if number - number == 0 else text  # "nan" and "inf" are text here


def format_value(value: Any) -> str:
    """The text that `parse_value` reads as this value: text itself where it can be, else JSON."""
    if isinstance(value, str) and parse_value(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(name)
