"""Schemas of a catalog: what they may hold, and that holding a value against one looks nowhere
else."""

from __future__ import annotations

import re
from typing import Any, Literal

import pytest
from pydantic import Field

from shared.catalog import MAX_ENTRIES, MAX_ENTRY_BYTES, Catalog, CatalogEntry
from shared.errors import InvalidRequest, PluginImportError
from shared.param_schema import build_validator, check_schema
from shared.plugins import Params
from tests.support.plugins import PLUGINS

CHAIN = {f"D{n}": {"$ref": f"#/$defs/D{n + 1}"} for n in range(1999)} | {"D1999": {}}
DOUBLING = {
    f"D{n}": {"items": {"anyOf": [{"$ref": f"#/$defs/D{n + 1}"}] * 2}} for n in range(7)
} | {"D7": {}}


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


# Of these a value would name files that nobody identifies.
NO_PATHS: list[dict[str, Any]] = [
    {"type": "object"},
    {"type": ["string", "object"]},
    {"anyOf": [{"type": "string"}, {"type": "object"}]},
    {"type": "array"},
    {"type": "array", "items": {"type": "object"}},
    {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}]},
    {"type": "integer"},
    {},
]


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"$ref": "http://127.0.0.1:1/x"}, "$ref: "),
        ({"$ref": "file:///etc/hosts"}, "$ref: "),
        ({"$ref": "#"}, "$ref: "),
        ({"$ref": "other.json#/$defs/A", "$defs": {"A": {}}}, "$ref: "),
        ({"properties": {"a": {"items": {"$ref": "https://x"}}}}, "properties.a.items.$ref"),
        ({"$id": "http://x/"}, "$id: not a supported keyword here"),
        ({"$schema": "http://x/"}, "$schema: not a supported keyword"),
        ({"$dynamicRef": "http://x/"}, "$dynamicRef: not a supported keyword"),
        ({"patternProperties": {"(a+)+$": {}}}, "patternProperties: not a supported keyword"),
        ({"contains": {}}, "contains: not a supported keyword"),
        ({"$ref": "#/$defs/A"}, "#/$defs/A: its schema defines no A"),
        (
            {"$ref": "#/$defs/A", "$defs": {"A": {"anyOf": [{"$ref": "#/$defs/A"}]}}},
            "refers to itself",
        ),
        ({"$ref": "#/$defs/D0", "$defs": CHAIN}, "more than 24 levels deep"),
        (
            {"$ref": "#/$defs/D0", "$defs": DOUBLING},
            "its schema contains 637 schemas, above the limit of 500",
        ),
        (nested(24), "its schema is 25 levels deep, above the limit of 24"),
        (nested(3000), "items"),
        ({"anyOf": [{}] * 33}, "anyOf: "),
        ({"type": "int"}, "type"),
        ({"minimum": "0"}, "minimum: "),
        ({"multipleOf": 0}, "multipleOf: "),
        ({"required": [1]}, "required.0: "),
        ({"properties": {"a": True}}, "properties.a: "),
        ({"x-plugin": ["dataset"]}, "x-plugin: "),
        ({"x-data": "yes"}, "x-data: "),
        (
            {"properties": {"a": {"properties": {"path": {"x-data": True}}}}},
            "x-data can only mark a parameter that is a path",
        ),
        (
            {"properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"x-data": True}}},
            "nothing inside an object",
        ),
        (
            {
                "properties": {"a": {"$ref": "#/$defs/A", "x-data": True}},
                "$defs": {"A": {"type": "string"}},
            },
            "x-data can only mark a parameter that is a path",
        ),
        *(
            (
                {"properties": {"a": {**schema, "x-data": True}}},
                "x-data can only mark a parameter that is a path",
            )
            for schema in NO_PATHS
        ),
    ],
)
def test_a_schema_that_could_cost_more_than_it_shows_is_refused_with_the_plugins_name(
    schema: dict[str, Any], why: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        check_schema(schema)
    entry = CatalogEntry(kind="model", name="evil", summary="Waits.", params_schema=schema)
    with pytest.raises(PluginImportError, match="the parameters of model evil: "):
        Catalog.from_json([entry.model_dump()])


def test_what_pydantic_writes_of_parameters_is_accepted() -> None:
    class Inner(Params):
        word: str = Field("a", pattern=r"^[a-z]+$", max_length=5)
        kinds: set[int] = Field(default_factory=set)

    class Outer(Params):
        one: Inner = Inner()
        several: dict[str, list[tuple[int, float]]] = Field({})
        anything: Any = None
        named: dict[Literal["a", "b"], float] = Field({})
        either: Inner | int | None = Field(3, deprecated=True, examples=[1])

    check_schema(Outer.model_json_schema())
    published = Catalog.from_json(
        [CatalogEntry.from_plugin(plugin).model_dump() for plugin in PLUGINS]
    )
    assert len(published.plugins) == len(PLUGINS)


def test_a_pattern_is_left_to_the_worker() -> None:
    """Python's engine would try 2 ** 60 ways here."""
    schema = {"properties": {"word": {"type": "string", "pattern": "^(a+)+$"}}}
    check_schema(schema)
    assert list(build_validator(schema).iter_errors({"word": "a" * 60 + "!"})) == []
    assert list(build_validator(schema).iter_errors({"word": 1})) != []


@pytest.mark.parametrize("word", ["anyOf", "oneOf"])
def test_of_many_errors_of_one_value_few_are_kept(word: str) -> None:
    schema = {
        "properties": {
            "n": {word: [{"type": "array", "items": {"type": "integer"}}, {"type": "null"}]}
        }
    }
    assert list(build_validator(schema).iter_errors({"n": [1, 2]})) == []
    (error,) = build_validator(schema).iter_errors({"n": ["x"] * 1000})
    assert error.validator == word
    assert len(error.context) == 11


def test_references_within_the_schema_are_followed() -> None:
    schema = {"properties": {"n": {"$ref": "#/$defs/N"}}, "$defs": {"N": {"type": "integer"}}}
    assert list(build_validator(schema).iter_errors({"n": 1})) == []
    assert list(build_validator(schema).iter_errors({"n": "1"})) != []


def test_a_reference_that_was_not_checked_is_not_followed_either(tmp_path: Any) -> None:
    (tmp_path / "any.json").write_text("{}")
    schema = {"$ref": f"file://{tmp_path}/any.json"}
    with pytest.raises(Exception, match="Unresolvable"):
        list(build_validator(schema).iter_errors({}))


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        (
            [
                CatalogEntry(kind="model", name=f"m{n}", summary="One.")
                for n in range(MAX_ENTRIES + 1)
            ],
            "has 1001 plugins",
        ),
        (
            [CatalogEntry(kind="model", name="long", summary="x" * MAX_ENTRY_BYTES)],
            "model long has 65",
        ),
        (
            [CatalogEntry(kind="model", name=f"m{n}", summary="x" * 60_000) for n in range(80)],
            r"the catalog has 48\d{5} bytes, above the limit of 4194304",
        ),
    ],
)
def test_the_size_of_a_catalog_is_bounded(entries: list[CatalogEntry], why: str) -> None:
    with pytest.raises(PluginImportError, match=why):
        Catalog(entries).require_bounded()


@pytest.mark.parametrize("body", [7, {}, [7], [{"kind": "stage"}]])
def test_what_is_no_catalog_is_refused(body: Any) -> None:
    with pytest.raises(PluginImportError, match="catalog is invalid"):
        Catalog.from_json(body)


def test_a_long_name_is_not_compared_with_every_name() -> None:
    with pytest.raises(InvalidRequest, match="unknown model"):
        Catalog([CatalogEntry(kind="model", name="a", summary="A.")]).get(
            "model", "a" * 500_000, "model"
        )
