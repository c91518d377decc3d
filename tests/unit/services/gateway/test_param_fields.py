"""services.gateway.console._param_fields: fields of JSON Schema, and values of what is typed."""

from __future__ import annotations

from typing import Any

import pytest

from services.gateway.console._param_fields import ParamField, describe_range, iter_param_fields
from shared.catalog import CatalogEntry

NULL = {"type": "null"}
SCHEMA: dict[str, Any] = {
    "$defs": {"Recipe": {"type": "object", "required": ["epochs"], "properties": {
        "epochs": {"type": "integer", "minimum": 1},
        "lr": {"type": "number", "default": 0.1, "exclusiveMinimum": 0, "maximum": 10}}}},
    "required": ["shape"],
    "properties": {
        "shape": {"type": "array", "prefixItems": [{"type": "integer"}] * 3},
        "steps": {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 10000}, NULL],
                  "default": None, "description": "null: as in training"},
        "target": {"enum": ["raw", "filtered"], "type": "string", "default": "raw"},
        "delimiter": {"enum": [",", "\t"], "type": "string", "default": ","},
        "library": {"enum": [f"net{n}" for n in range(50)], "type": "string", "default": "net0"},
        "on": {"type": "boolean", "default": True},
        "id": {"anyOf": [{"type": "string"}, NULL], "default": None},
        "path": {"anyOf": [{"type": "string"}, NULL], "default": None, "x-data": True},
        "grid": {"type": "array", "items": {"type": "number"}, "default": [0.1, 1]},
        "rows": {"anyOf": [{"type": "array", "items": {"anyOf": [{"type": "integer"},
                 {"type": "array", "items": {"type": "integer"}}]}}, NULL], "default": None},
        "tests": {"type": "array", "items": {"type": "string"}, "default": []},
        "recipe": {"anyOf": [{"$ref": "#/$defs/Recipe"}, NULL], "default": None},
        "model": {"x-plugin": "model"},
        "hidden": {"type": "integer"},
    },
}  # fmt: skip


def make_fields() -> dict[str, ParamField]:
    entry = CatalogEntry(kind="model", name="m", summary="", params_schema=SCHEMA)
    fields = iter_param_fields(entry, lambda name: name == "hidden")
    return {".".join(field.path): field for field in fields}


def test_each_parameter_is_drawn_by_its_type() -> None:
    kinds = {name: (field.kind, field.default) for name, field in make_fields().items()}
    assert kinds == {
        "shape": ("value", None), "steps": ("number", ""), "target": ("menu", "raw"),
        "delimiter": ("menu", ","), "library": ("text", "net0"), "on": ("switch", "true"),
        "id": ("text", ""), "path": ("file", ""), "grid": ("value", "0.1, 1"), "rows": ("value", ""),
        "tests": ("value", ""), "recipe.epochs": ("number", None), "recipe.lr": ("number", "0.1"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("shape", "3x32x32", [3, 32, 32]), ("shape", "[3,32,32]", [3, 32, 32]),
        ("shape", "wide", ["wide"]), ("steps", "7", 7), ("steps", "1e3", 1000.0),
        ("steps", "nan", "nan"), ("steps", "null", None), ("target", "raw", "raw"),
        ("target", "no", "no"), ("on", "false", False), ("id", "12", "12"), ("id", "true", "true"),
        ("path", "upload:ab", "upload:ab"), ("grid", "0.1, 0.3", [0.1, 0.3]), ("grid", "1", [1]),
        ("rows", "4711, 4712", [4711, 4712]), ("rows", "[[1, 2], 3]", [[1, 2], 3]),
        ("tests", "klom, probe", ["klom", "probe"]), ("recipe.lr", "x", "x"),
    ],
)  # fmt: skip
def test_what_is_typed_becomes_a_value_and_is_written_again(
    name: str, text: str, value: Any
) -> None:
    field = make_fields()[name]
    assert field.parse(text) == value
    assert type(field.parse(text)) is type(value)
    written = field.format(value)  # empty: the default
    assert (field.parse(written) if written else None) == value


def test_ranges_are_written_out() -> None:
    fields = make_fields()
    assert fields["steps"].range == "1 to 10,000"
    assert fields["recipe.lr"].range == "above 0, at most 10"
    assert fields["recipe.epochs"].range == "at least 1"
    assert describe_range({"exclusiveMaximum": 1e300}) == "below 1e+300"
