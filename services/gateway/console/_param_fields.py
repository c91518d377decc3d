"""Parameters of plugins as fields of a form: from their JSON Schema to what a page draws, and from
what somebody has typed to a value.

Nothing is checked here: a value that is none of the parameter's goes on as text, and is refused by
the checks that every submission passes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from services.values import format_value, parse_value
from shared.catalog import CatalogEntry
from shared.param_schema import DEFS_PREFIX

MAX_SELECT = 20  # values of an enum that are drawn as a menu; more are suggestions
SEPARATOR = "/"  # between the parts of a field's name
ON, OFF = "true", "false"

_LIST = re.compile(r"[x×,;\s]+")


@dataclass(frozen=True)
class ParamField:
    """One parameter.

    path: its names, from the outermost object to the parameter.
    schema: of its value, without null.
    kind: how it is drawn: menu, switch, number, text, file or value (a list or an object).
    default: as text; None if it must be given.
    is_null: whether null is the default; an empty field then says it.
    """

    path: tuple[str, ...]
    schema: Mapping[str, Any]
    kind: str
    default: str | None
    help: str
    is_null: bool = False

    @property
    def label(self) -> str:
        """`relearning epochs`."""
        return " ".join(self.path).replace("_", " ")

    @property
    def is_file(self) -> bool:
        """Whether it names a file of the data root or an upload."""
        return self.kind == "file"

    @property
    def options(self) -> list[str]:
        """The values of an enum, as text."""
        return [format_value(value) for value in self.schema.get("enum", ())]

    @property
    def range(self) -> str:
        """`1 to 100,000`, `above 0, at most 10`; "" where there are no bounds."""
        return describe_range(self.schema)

    @property
    def hint(self) -> str:
        """What stands in the empty field."""
        return "" if self.default is None else self.default

    def parse(self, text: str) -> Any:
        """The value that somebody has typed."""
        if self.kind in ("text", "file"):
            return None if text == "null" and self.default is not None else text
        if self.kind == "menu":
            by_text = dict(zip(self.options, self.schema.get("enum", ()), strict=True))
            return by_text.get(text, None if text == "null" else text)
        value = parse_value(text)
        if self.kind == "value" and isinstance(value, str | int | float):
            return _parse_list(text, self.schema)
        return value

    def format(self, value: Any) -> str:
        """The text that `parse` reads as this value; empty for a null that is the default."""
        if value is None and self.is_null:
            return ""
        if self.kind in ("text", "file"):
            return "null" if value is None else str(value)
        if isinstance(value, list) and self.parse(compact := _format_list(value)) == value:
            return compact
        return format_value(value)


def iter_param_fields(
    entry: CatalogEntry, is_hidden: Callable[[str], bool] = lambda _: False
) -> Iterator[ParamField]:
    """The parameters of a plugin that can be set, in its order; those of objects of named
    parameters, one by one.

    Args:
        is_hidden: whether a parameter of this name is left out.
    """
    defs = entry.params_schema.get("$defs", {})
    required = set(entry.params_schema.get("required", ()))
    for name, schema in entry.properties.items():
        if not (is_hidden(name) or "x-plugin" in schema):
            yield from _iter_fields((name,), schema, defs, name in required)


def _iter_fields(
    path: tuple[str, ...],
    schema: Mapping[str, Any],
    defs: Mapping[str, Any],
    is_required: bool,
) -> Iterator[ParamField]:
    inner = _strip_null(schema, defs)
    if inner.get("properties"):
        needed = set(inner.get("required", ()))
        for name, part in inner["properties"].items():
            if "x-plugin" not in part:
                yield from _iter_fields((*path, name), part, defs, name in needed)
        return
    default, value = None, None
    if not is_required:
        value = schema.get("default")
        default = _format_list(value) if isinstance(value, list) else format_value(value)
        default = "" if value is None else default
    kind = _choose_kind(inner, is_data=_is_data(schema))
    is_null = value is None and not is_required
    yield ParamField(path, inner, kind, default, str(schema.get("description", "")), is_null)


def _strip_null(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema of all values but null, references followed."""
    alternatives = [part for part in schema.get("anyOf", ()) if part.get("type") != "null"]
    inner = alternatives[0] if len(alternatives) == 1 else schema
    reference = str(inner.get("$ref", ""))
    return defs.get(reference.removeprefix(DEFS_PREFIX), inner) if reference else inner


def _is_data(schema: Mapping[str, Any]) -> bool:
    return any(part.get("x-data") is True for part in (schema, *schema.get("anyOf", ())))


def _choose_kind(schema: Mapping[str, Any], *, is_data: bool) -> str:
    kind = schema.get("type")
    if is_data and kind == "string":
        return "file"
    if "enum" in schema and len(schema["enum"]) <= MAX_SELECT:
        return "menu"
    return {"boolean": "switch", "integer": "number", "number": "number", "string": "text"}.get(
        str(kind), "value"
    )


def describe_range(schema: Mapping[str, Any]) -> str:
    """`1 to 100,000`, `above 0, at most 10`; "" where there are no bounds."""
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f"{_format_number(low)} to {_format_number(high)}"
    parts = [
        f"{word} {_format_number(value)}"
        for word, value in (
            ("at least", low), ("above", above), ("at most", high), ("below", below),
        )
        if value is not None
    ]  # fmt: skip
    if len(parts) == 2:
        return ", ".join(parts)
    return parts[0] if parts else ""


def _format_number(value: float) -> str:
    return f"{value:,}" if abs(value) < 1e15 else f"{value:g}"


def _parse_list(text: str, schema: Mapping[str, Any]) -> Any:
    """`3x32x32` or `0.1, 0.3` where a list is expected, and words between commas."""
    if schema.get("type") != "array":
        return parse_value(text)
    numbers = [parse_value(part) for part in _LIST.split(text.strip(" ,;")) if part]
    if numbers and all(type(number) in (int, float) for number in numbers):
        return numbers
    return [part.strip() for part in text.split(",")]


def _format_list(value: list[Any]) -> str:
    return ", ".join(part if isinstance(part, str) else format_value(part) for part in value)
