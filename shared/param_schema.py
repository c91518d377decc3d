"""The part of JSON Schema in which plugins describe their parameters, and the validator for it.

A catalog is data that comes out of a database, so what it may make the gateway do is bounded here:
a schema refers to its own `$defs` only, without circles, and names keywords of the list below only,
whose cost grows with the value and not faster. `pattern`, `uniqueItems` and `propertyNames` are
published as documentation and are left to the worker, which validates again with the plugin's
own `Params`: the gateway never runs a regular expression of a catalog.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import islice
from typing import Annotated, Any, Literal

from jsonschema import Draft202012Validator
from jsonschema import ValidationError as SchemaError
from jsonschema.protocols import Validator
from jsonschema.validators import create
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints, ValidationError
from referencing import Registry

# levels of one schema, references followed; the plugins that come along have at most 5
MAX_DEPTH = 24
# schemas within one schema, references followed; the plugins that come along have at most 30
MAX_NODES = 500
MAX_ERRORS = 10  # that are kept of one alternative
MAX_ALTERNATIVES = 32  # of one anyOf, oneOf or allOf
MAX_LISTED_VALUES = 20  # that an error lists; of more, the nearest ones
DEFS_PREFIX = "#/$defs/"

_Type = Literal["null", "boolean", "integer", "number", "string", "array", "object"]
_Name = Annotated[str, StringConstraints(min_length=1, max_length=100)]
_Count = Annotated[int, Field(ge=0)]
_SchemaList = Annotated[list["ParamSchema"], Field(min_length=1, max_length=MAX_ALTERNATIVES)]


class ParamSchema(BaseModel):
    """Every keyword that a schema may hold, under its own name."""

    model_config = ConfigDict(extra="forbid", strict=True)

    # refers and combines
    ref: Annotated[str, StringConstraints(pattern=r"^#/\$defs/[A-Za-z0-9_.-]+$")] | None = Field(
        None, alias="$ref"
    )
    defs: dict[_Name, ParamSchema] = Field({}, alias="$defs")
    properties: dict[_Name, ParamSchema] = {}
    additionalProperties: bool | ParamSchema = True
    items: bool | ParamSchema = True
    prefixItems: _SchemaList | None = None
    anyOf: _SchemaList | None = None
    oneOf: _SchemaList | None = None
    allOf: _SchemaList | None = None
    # checks
    type: _Type | list[_Type] | None = None
    enum: list[Any] | None = None
    const: Any = None
    required: list[_Name] = []
    minimum: FiniteFloat | None = None
    maximum: FiniteFloat | None = None
    exclusiveMinimum: FiniteFloat | None = None
    exclusiveMaximum: FiniteFloat | None = None
    multipleOf: Annotated[FiniteFloat, Field(gt=0)] | None = None
    minLength: _Count | None = None
    maxLength: _Count | None = None
    minItems: _Count | None = None
    maxItems: _Count | None = None
    minProperties: _Count | None = None
    maxProperties: _Count | None = None
    # says, or is left to the worker
    plugin: _Name | None = Field(None, alias="x-plugin")
    data: bool | None = Field(None, alias="x-data")
    pattern: str | None = None
    uniqueItems: bool | None = None
    propertyNames: dict[str, Any] | None = None
    format: str | None = None
    title: str | None = None
    description: str | None = None
    default: Any = None
    examples: list[Any] | None = None
    deprecated: bool | None = None
    readOnly: bool | None = None
    writeOnly: bool | None = None
    contentEncoding: str | None = None
    contentMediaType: str | None = None
    discriminator: Any = None

    def list_parts(self) -> list[ParamSchema]:
        """The schemas directly within it, without those that it only defines."""
        several = [
            *(self.prefixItems or ()),
            *(self.anyOf or ()),
            *(self.oneOf or ()),
            *(self.allOf or ()),
        ]
        single = [
            part
            for part in (self.items, self.additionalProperties)
            if isinstance(part, ParamSchema)
        ]
        return [*self.properties.values(), *several, *single]


def _check_any_of(
    validator: Any, alternatives: list[Any], value: Any, _schema: Any
) -> Iterator[SchemaError]:
    """As the library's, but a list of 60,000 wrong words makes a few errors and not 60,000.

    For oneOf too: pydantic writes it where the worker tells by one field which alternative is
    meant.
    """
    context: list[SchemaError] = []
    for index, alternative in enumerate(alternatives):
        errors = list(islice(validator.descend(value, alternative, schema_path=index), MAX_ERRORS))
        if not errors:
            return
        context += errors
    yield SchemaError(f"{value!r} is not valid under any of the given schemas", context=context)


_WORKER_ONLY_KEYWORDS = {"pattern", "uniqueItems", "propertyNames", "format"}
_gateway_keywords = {
    field.alias or name for name, field in ParamSchema.model_fields.items()
} - _WORKER_ONLY_KEYWORDS
_keyword_checks = {
    word: check
    for word, check in Draft202012Validator.VALIDATORS.items()
    if word in _gateway_keywords
}
_Validator = create(
    meta_schema=Draft202012Validator.META_SCHEMA,
    validators={**_keyword_checks, "anyOf": _check_any_of, "oneOf": _check_any_of},
    type_checker=Draft202012Validator.TYPE_CHECKER,
)


def build_validator(schema: dict[str, Any]) -> Validator:
    """What holds values against a schema. It looks nothing up outside of the schema."""
    validator: Validator = _Validator(
        {word: value for word, value in schema.items() if word != "title"}, registry=Registry()
    )
    return validator


def check_schema(schema: dict[str, Any]) -> None:
    """Refuse a schema that is not of this part, or could cost more than its length shows.

    Raises:
        ValueError: in words, where and what.
    """
    try:
        whole = ParamSchema.model_validate(schema)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False, include_input=False)
        first = max(
            errors, key=lambda e: len(e["loc"])
        )  # where a schema may be a boolean, one error says that it is none
        where = ".".join(str(part) for part in first["loc"] if part != ParamSchema.__name__)
        why = "not a supported keyword here" if first["type"] == "extra_forbidden" else first["msg"]
        raise ValueError(f"{where}: {why}") from error
    try:
        depth, nodes = _SchemaMeasure(whole.defs).measure(whole)
    except RecursionError as error:  # a chain of definitions
        raise ValueError(f"its schema is more than {MAX_DEPTH} levels deep") from error
    if depth > MAX_DEPTH:
        raise ValueError(f"its schema is {depth} levels deep, above the limit of {MAX_DEPTH}")
    if nodes > MAX_NODES:
        raise ValueError(f"its schema contains {nodes} schemas, above the limit of {MAX_NODES}")
    properties = whole.properties.values()
    if _count_marks(whole) != sum(_count_marks(p, collected=True) for p in properties) or not all(
        _is_path(marked) for p in properties for marked in _iter_marked(p)
    ):
        raise ValueError(
            "x-data can only mark a parameter that is a path or a list of paths, and nothing "
            "inside an object"
        )


def _count_marks(schema: ParamSchema, collected: bool = False) -> int:
    """How many parts of it are marked as data files: all, or those that `iter_data_paths` finds."""
    alternatives = schema.anyOf or ()
    items = [schema.items] if isinstance(schema.items, ParamSchema) else []
    parts = [*alternatives, *items] if collected else [*schema.list_parts(), *schema.defs.values()]
    return int(schema.data is True) + sum(_count_marks(part, collected) for part in parts)


def _iter_marked(schema: ParamSchema) -> Iterator[ParamSchema]:
    """The parts that are marked as data files, as `iter_data_paths` finds them."""
    if schema.data is True:
        yield schema
    items = [schema.items] if isinstance(schema.items, ParamSchema) else []
    for part in (*(schema.anyOf or ()), *items):
        yield from _iter_marked(part)


def _is_path(schema: ParamSchema) -> bool:
    """Whether each value that it lets pass is a path, a list of paths, or null: `iter_data_paths` finds
    no other."""
    if schema.anyOf:
        return all(_is_path(alternative) for alternative in schema.anyOf)
    types = set(schema.type) if isinstance(schema.type, list) else {schema.type}
    if not types <= {"string", "array", "null"}:
        return False
    items = [
        *(schema.prefixItems or ()),
        *([schema.items] if isinstance(schema.items, ParamSchema) else ()),
    ]
    return "array" not in types or (bool(items) and all(_is_path(item) for item in items))


class _SchemaMeasure:
    """Depth and number of schemas, each definition counted wherever it is referred to."""

    def __init__(self, defs: dict[str, ParamSchema]) -> None:
        self._defs = defs
        self._known: dict[str, tuple[int, int] | None] = {}

    def measure(self, schema: ParamSchema) -> tuple[int, int]:
        parts = [self.measure(part) for part in schema.list_parts()]
        if schema.ref is not None:
            parts.append(self._measure_ref(schema.ref))
        return 1 + max((depth for depth, _ in parts), default=0), 1 + sum(
            nodes for _, nodes in parts
        )

    def _measure_ref(self, ref: str) -> tuple[int, int]:
        name = ref.removeprefix(DEFS_PREFIX)
        if name not in self._defs:
            raise ValueError(f"{ref}: its schema defines no {name}")
        if name not in self._known:
            self._known[name] = None
            self._known[name] = self.measure(self._defs[name])
        measured = self._known[name]
        if measured is None:
            raise ValueError(f"{ref}: its schema refers to itself")
        return measured


def normalize_numbers(value: Any, schema: Mapping[str, Any]) -> Any:
    """1 and 1.0 are the same number: it is written as the schema's type says, so that equal jobs
    are equal."""
    types = {s.get("type") for s in (schema, *schema.get("anyOf", ()))}
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        return [normalize_numbers(v, schema["items"]) for v in value]
    if type(value) is int and "number" in types and "integer" not in types:
        return float(value)
    if type(value) is float and value.is_integer() and "integer" in types and "number" not in types:
        return int(value)
    return value


def get_parameters(
    schema: Mapping[str, Any], defs: Mapping[str, Any]
) -> Mapping[str, Mapping[str, Any]]:
    """The parameters, by name, of a parameter that is itself an object of named ones; else none.

    Args:
        defs: the `$defs` that the schema refers to.
    """
    objects = (
        defs.get(str(s.get("$ref", "")).removeprefix(DEFS_PREFIX), s)
        for s in (schema, *schema.get("anyOf", ()))
    )
    return next((s["properties"] for s in objects if s.get("properties")), {})


def iter_data_paths(value: Any, schema: Mapping[str, Any], marked: bool = False) -> Iterator[str]:
    """The paths within a parameter's value that its schema marks as those of data files: itself, or
    items of a list."""
    marked = marked or schema.get("x-data") is True
    items = schema.get("items")
    if isinstance(value, str) and marked:
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from iter_data_paths(one, items if isinstance(items, dict) else {}, marked)
    if not marked:
        for alternative in schema.get("anyOf", ()):
            yield from iter_data_paths(value, alternative)


def explain_error(error: SchemaError, owner: str, path: str) -> tuple[str, str]:
    """What is wrong with a value of `owner`: the message, and the dotted path."""
    given: Any = error.instance
    schema: Any = error.schema
    expected: Any = error.validator_value
    where = ".".join([path, *(str(p) for p in error.absolute_path)])
    if error.validator == "additionalProperties":
        known = sorted(schema.get("properties", ()))
        unknown = sorted(set(given).difference(known))
        near = get_close_matches(unknown[0], known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        return (
            f"unknown parameter {unknown[0]!r} for {owner}{hint} Known: "
            f"{', '.join(known) or 'none'}",
            f"{where}.{unknown[0]}",
        )
    if error.validator == "required":
        missing = next(n for n in expected if n not in given)
        return f"{owner} needs parameter {missing!r}", f"{where}.{missing}"
    if error.validator == "anyOf":
        kinds = " or ".join(str(s.get("type", "value")) for s in expected)
        deeper = [c for c in error.context or [] if c.validator not in ("type", "const")]
        if deeper:
            return f"{where}: {deeper[0].message}", where
        return f"{where}: {given!r} is not {kinds}", where
    if error.validator == "enum" and isinstance(given, str) and len(expected) > MAX_LISTED_VALUES:
        return f"{where}: {explain_unknown_value(given, expected)}", where
    return f"{where}: {error.message}", where


def explain_unknown_value(given: str, known: Sequence[str]) -> str:
    """Why `given` is none of many known values: the nearest ones, or what to leave out of it."""
    shown = f"{given[:100]!r} is none of the {len(known):,} known values"
    stem, dot, tag = given.partition(".")
    if dot and stem in known:
        return f"{shown}: leave out {dot + tag[:100]!r} and write {stem!r}"
    if near := get_close_matches(given[:100], [str(value) for value in known], n=3):
        return f"{shown}; did you mean {' or '.join(repr(value) for value in near)}?"
    return f"{shown}: /v1/catalog lists them"
