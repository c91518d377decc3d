"""Request bodies, read strictly: what JSON leaves open or Python reads too kindly is refused here, once.

A body that passes holds no NaN, no number beyond 64 bits, no name twice, no text that a database cannot
store, and is not nested deeper than any honest request.
"""

from __future__ import annotations

import json
import math
from contextlib import nullcontext
from typing import Any, NoReturn

from flask import Request
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from services.gateway.deps import gateway
from shared.errors import InvalidRequest

MAX_BYTES = 1 << 20
SHORT_BYTES = 16 << 10  # is read, and one job in it planned, in some milliseconds: without waiting for a turn
MAX_DEPTH = 32
MAX_NAME = 256
INT64 = range(-(2**63), 2**63)


class StrictRequest(Request):
    """Flask's request whose `get_json` never guesses and never keeps an error to itself."""

    # flask-openapi asks with silent=True, which would turn every mistake into "a body is missing"
    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:  # noqa: ARG002 - Flask's signature
        if not self.is_json:
            raise UnsupportedMediaType("send JSON, with Content-Type: application/json")
        if self.headers.get("Content-Encoding", "identity") != "identity":
            raise UnsupportedMediaType("send the body uncompressed")
        data = self.get_data()
        with gateway().planning.turn() if len(data) > SHORT_BYTES else nullcontext():
            return parse(data)


def parse(data: bytes) -> dict[str, Any]:
    """The JSON object in `data`.

    Raises:
        BadRequest: not JSON at all.
        InvalidRequest: JSON that no request may hold; `field` says where.
    """
    if not data:
        raise BadRequest("the body is empty: send a JSON object, with a Content-Length")
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_constant)
    except json.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from error
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body is not UTF-8: byte {error.start} cannot be read") from error
    except RecursionError as error:
        raise InvalidRequest(f"the body is nested deeper than {MAX_DEPTH} levels") from error
    except ValueError as error:  # Python refuses integers of thousands of digits
        raise InvalidRequest(f"the body holds a number that is too long: {error}") from error
    if not isinstance(value, dict):
        raise InvalidRequest(f"the body must be a JSON object, not {_kind(value)}")
    _check(value, (), 1)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise InvalidRequest(f"{name[:MAX_NAME]!r} is there twice: which one counts?", name[:MAX_NAME])
        found[name] = value
    return found


def _constant(name: str) -> NoReturn:
    raise InvalidRequest(f"{name} is not a number that JSON knows")


def _check(value: Any, path: tuple[str, ...], depth: int) -> None:
    """Refuse values that would break something further in."""
    field = ".".join(path)
    if depth > MAX_DEPTH:
        raise InvalidRequest(f"the body is nested deeper than {MAX_DEPTH} levels", field)
    if isinstance(value, str):
        _check_text(value, field)
    elif isinstance(value, bool) or value is None:
        return
    elif isinstance(value, int) and value not in INT64:
        raise InvalidRequest("an integer must fit into 64 bits", field)
    elif isinstance(value, float) and not math.isfinite(value):
        raise InvalidRequest("a number must be finite", field)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            _check(item, (*path, str(i)), depth + 1)
    elif isinstance(value, dict):
        for name, item in value.items():
            if len(name) > MAX_NAME:
                raise InvalidRequest(f"a name is longer than {MAX_NAME} characters", field)
            _check_text(name, field)
            _check(item, (*path, name), depth + 1)


def _check_text(text: str, field: str) -> None:
    if "\0" in text:
        raise InvalidRequest("text must not hold the character NUL", field)
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise InvalidRequest("text must not hold half of a surrogate pair", field)


def _kind(value: Any) -> str:
    return {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}.get(type(value), "a number")
