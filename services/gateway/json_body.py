"""Strict parsing of JSON request bodies.

An accepted body contains no NaN, no integer beyond 64 bits, no duplicate key, no text that a
database cannot store, and no nesting beyond MAX_DEPTH.
"""

from __future__ import annotations

import json
import math
from contextlib import nullcontext
from typing import Any, NoReturn

from flask import Request
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from services.gateway.deps import current_gateway
from shared.errors import InvalidRequest

MAX_BODY_BYTES = 1 << 20
# parsed and planned within milliseconds, so without the planning limiter
SMALL_BODY_BYTES = 16 << 10
MAX_DEPTH = 32
MAX_KEY_CHARS = 256
INT64_RANGE = range(-(2**63), 2**63)


class StrictRequest(Request):
    """Flask's request with a strict `get_json` that raises every error."""

    # flask-openapi passes silent=True, which would turn every error into "a body is missing"
    def get_json(
        self,
        force: bool = False,  # noqa: ARG002 - Flask's signature
        silent: bool = False,  # noqa: ARG002 - Flask's signature
        cache: bool = True,  # noqa: ARG002 - Flask's signature
    ) -> Any:
        if not self.is_json:
            raise UnsupportedMediaType("send JSON, with Content-Type: application/json")
        if self.headers.get("Content-Encoding", "identity") != "identity":
            raise UnsupportedMediaType("send the body uncompressed")
        data = self.get_data()
        with (
            current_gateway().planning_limiter.acquire()
            if len(data) > SMALL_BODY_BYTES
            else nullcontext()
        ):
            return parse_json_object(data)


def parse_json_object(data: bytes) -> dict[str, Any]:
    """The JSON object in `data`.

    Raises:
        BadRequest: not JSON at all.
        InvalidRequest: JSON that is not accepted; `field` says where.
    """
    if not data:
        raise BadRequest("the body is empty: send a JSON object, with a Content-Length")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_reject_duplicate_keys,
            parse_constant=_reject_constant,
        )
    except json.JSONDecodeError as error:
        raise BadRequest(
            f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from error
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body is not UTF-8: byte {error.start} cannot be decoded") from error
    except RecursionError as error:
        raise InvalidRequest(f"the body is nested deeper than {MAX_DEPTH} levels") from error
    except ValueError as error:  # Python refuses integers of thousands of digits
        raise InvalidRequest(f"the body contains a number that is too long: {error}") from error
    if not isinstance(value, dict):
        raise InvalidRequest(f"the body must be a JSON object, not {_describe_type(value)}")
    _check_value(value, (), 1)
    return value


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique: dict[str, Any] = {}
    for name, value in pairs:
        if name in unique:
            raise InvalidRequest(f"duplicate key {name[:MAX_KEY_CHARS]!r}", name[:MAX_KEY_CHARS])
        unique[name] = value
    return unique


def _reject_constant(name: str) -> NoReturn:
    raise InvalidRequest(f"{name} is not a JSON number")


def _check_value(value: Any, path: tuple[str, ...], depth: int) -> None:
    """Refuse values that later code cannot handle."""
    field = ".".join(path)
    if depth > MAX_DEPTH:
        raise InvalidRequest(f"the body is nested deeper than {MAX_DEPTH} levels", field)
    if isinstance(value, str):
        _check_text(value, field)
    elif isinstance(value, bool) or value is None:
        return
    elif isinstance(value, int) and value not in INT64_RANGE:
        raise InvalidRequest("an integer must fit into 64 bits", field)
    elif isinstance(value, float) and not math.isfinite(value):
        raise InvalidRequest("a number must be finite", field)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            _check_value(item, (*path, str(i)), depth + 1)
    elif isinstance(value, dict):
        for name, item in value.items():
            if len(name) > MAX_KEY_CHARS:
                raise InvalidRequest(f"a key is longer than {MAX_KEY_CHARS} characters", field)
            _check_text(name, field)
            _check_value(item, (*path, name), depth + 1)


def _check_text(text: str, field: str) -> None:
    if "\0" in text:
        raise InvalidRequest("text must not contain NUL characters", field)
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise InvalidRequest("text must not contain unpaired surrogates", field)


def _describe_type(value: Any) -> str:
    return {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}.get(
        type(value), "a number"
    )
