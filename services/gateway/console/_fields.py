"""Fields of forms that take numbers."""

from __future__ import annotations

from flask import request

from shared.errors import InvalidRequest

MAX_DIGITS = 19


def read_whole(name: str) -> int | None:
    """The whole number in a field; None if it is empty.

    Raises:
        InvalidRequest: it is no such number. The field is its name.
    """
    text = request.form.get(name, "").strip().replace(",", "").replace(" ", "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > MAX_DIGITS:
        raise InvalidRequest("Enter a whole number of 0 or more, or leave it empty.", name)
    return int(text)
