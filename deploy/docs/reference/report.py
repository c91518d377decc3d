"""The report as data, from its JSON Schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from deploy.docs.markdown import end_sentence, escape_text, write_code, write_table
from deploy.docs.reference.json_schema import name_type
from shared.reporting.models import Report

_TEXT = """# The report as data

`report.json` has everything that the page of a report shows. Its JSON Schema is
[report.schema.json](../report.schema.json). Fields are only added within a version of the schema
(`palimpsest.report/2`). [Reading a report](../reading-a-report.md) says what it means.

"""


def write_pages() -> dict[str, str]:
    """Path below the reference -> text."""
    schema = Report.model_json_schema(by_alias=True)
    definitions = schema["$defs"]
    parts = [_TEXT, "## Report\n", _write_fields(schema, definitions)]
    for name in sorted(definitions):
        definition = definitions[name]
        if definition.get("properties"):
            text = end_sentence(escape_text(" ".join(definition.get("description", "").split())))
            parts.append(f"## {name}\n\n{text}\n\n{_write_fields(definition, definitions)}")
    return {"report.md": "\n".join(parts)}


def _write_fields(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    rows = [
        (
            write_code(name),
            _link_types(field, definitions),
            end_sentence(escape_text(field.get("description", ""))),
        )
        for name, field in schema["properties"].items()
    ]
    return write_table(("field", "type", "what it is"), rows)


def _link_types(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    text = name_type(field, {"$defs": definitions})
    links = [
        f"[{name}](#{name.lower()})"
        for name in dict.fromkeys(_iter_references(field))
        if definitions[name].get("properties")
    ]
    return text.replace("object", " or ".join(links), 1) if links else text


def _iter_references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if "$ref" in schema:
            yield schema["$ref"].rpartition("/")[2]
        for value in schema.values():
            yield from _iter_references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _iter_references(value)
