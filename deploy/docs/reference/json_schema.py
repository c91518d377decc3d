"""JSON Schema in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from deploy.docs.markdown import format_number, write_code, write_names

Schema = Mapping[str, Any]

_TYPES = {
    "integer": "whole number", "number": "number", "string": "text", "boolean": "true or false",
    "null": "null", "object": "object",
}  # fmt: skip
_BOUNDS = (
    ("minimum", "at least {}"), ("exclusiveMinimum", "more than {}"),
    ("maximum", "at most {}"), ("exclusiveMaximum", "less than {}"),
    ("maxLength", "at most {} characters"),
)  # fmt: skip
_PLUGIN = "a plugin: its name, or an object with `name` and `params`"


def name_type(schema: Schema, root: Schema) -> str:
    """What a value must be, as Markdown; `root` holds the definitions that it refers to."""
    if plugin := schema.get("x-plugin"):
        optional = ", or null" if "anyOf" in schema else ""
        return _PLUGIN.replace("a plugin", f"a plugin of the kind {write_code(plugin)}") + optional
    if "$ref" in schema:
        return _name_reference(schema["$ref"], root)
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return " or ".join(dict.fromkeys(name_type(one, root) for one in schema[word]))
    if "const" in schema:
        return write_code(json.dumps(schema["const"]))
    if "enum" in schema:
        return "one of " + write_names([str(value) for value in schema["enum"]])
    kind = schema.get("type")
    if isinstance(kind, list):
        return " or ".join(_TYPES.get(one, str(one)) for one in kind)
    if kind == "array":
        return _name_list(schema, root)
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {name_type(schema['additionalProperties'], root)}"
    if "x-data" in schema:
        return "a file of the data root, or `upload:SHA256`"
    return ", ".join([_TYPES.get(str(kind), "any value"), *_list_limits(schema)])


def _name_reference(reference: str, root: Schema) -> str:
    name = reference.rpartition("/")[2]
    definition = root.get("$defs", {}).get(name, {})
    if name.startswith("PluginRef"):
        return _PLUGIN
    if definition.get("type") == "object" and definition.get("properties"):
        return "object"
    return name_type(definition, root)


def _name_list(schema: Schema, root: Schema) -> str:
    least, most = schema.get("minItems", 0), schema.get("maxItems")
    if least == most:
        length = f"list of {least}"
    elif most is None:
        length = f"list of at least {least}" if least else "list"
    else:
        length = f"list of {least} to {format_number(most)}"
    items = schema.get("prefixItems") or [schema.get("items")]
    names = dict.fromkeys(name_type(one, root) for one in items if isinstance(one, dict))
    return f"{length} ({', '.join(names)})" if names else length


def _list_limits(schema: Schema) -> list[str]:
    return [words.format(format_number(schema[name])) for name, words in _BOUNDS if name in schema]


def write_default(schema: Schema) -> str:
    """The default in backticks; empty without a default."""
    if "default" not in schema:
        return ""
    return write_code(json.dumps(schema["default"], ensure_ascii=False))
