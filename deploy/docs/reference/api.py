"""The routes of the HTTP API, a page for each resource, and the OpenAPI document beside them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any

from deploy.docs.markdown import end_sentence, escape_text, write_code, write_table
from deploy.docs.reference.json_schema import name_type, write_default
from deploy.docs.reference.openapi import get_scope, iter_operations, load_openapi
from services.gateway.scopes import ANY

_TEXT = """# HTTP API

Routes take and return JSON. A request has the header `Authorization: Bearer KEY`; the key must have
the route's [scope](../../../SECURITY.md#keys-and-scopes). A list returns a page and `next`, the token
of the next one. [Errors](../problems.md) are JSON too. A running gateway serves this documentation
at `/openapi`; the document as a file is [openapi.json](../openapi.json).

"""


def write_pages() -> dict[str, str]:
    """Path below the reference -> text."""
    by_tag: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    for path, method, operation in iter_operations():
        by_tag.setdefault(operation["tags"][0], []).append((path, method, operation))
    pages = {f"api/{tag}.md": _write_resource(tag, routes) for tag, routes in by_tag.items()}
    rows = [
        (f"[{method.upper()} {path}]({tag}.md#{_make_anchor(path, method)})", scope, summary)
        for tag, routes in by_tag.items()
        for path, method, operation in routes
        for scope, summary in [(_write_scope(path, method, operation), _split_text(operation)[0])]
    ]
    pages["api/README.md"] = _TEXT + write_table(("route", "scope", "what it does"), rows)
    document = load_openapi()
    pages["openapi.json"] = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    return pages


def _make_anchor(path: str, method: str) -> str:
    return re.sub(r"[^\w]+", "-", f"{method} {path}").strip("-").lower()


def _split_text(operation: Mapping[str, Any]) -> tuple[str, str]:
    """The first sentence, and the rest as Markdown."""
    text = " ".join((operation.get("summary", ""), operation.get("description") or ""))
    text = re.sub(r"\s*<br/>\s*", "\n", text.replace("<br/><br/>", "\n\n"))
    text = re.sub(r"(?<!\n)\n(?!\n)", " ", text).strip()
    first, _, rest = text.partition("\n")
    sentence = re.split(r"(?<=[.])\s+(?=[A-Z`])", first, maxsplit=1)
    return sentence[0], "\n\n".join(part for part in (*sentence[1:], rest.strip()) if part)


def _write_scope(path: str, method: str, operation: Mapping[str, Any]) -> str:
    if not operation.get("security"):
        return "no key"
    scope = get_scope(path, method)
    return "any valid key" if scope == ANY else write_code(scope)


def _write_resource(tag: str, routes: Iterable[tuple[str, str, dict[str, Any]]]) -> str:
    return f"# {tag.capitalize()}\n\n" + "\n".join(_write_route(*route) for route in routes)


def _write_route(path: str, method: str, operation: Mapping[str, Any]) -> str:
    document = load_openapi()
    summary, text = _split_text(operation)
    parameters = [
        (
            write_code(one["name"]),
            one["in"],
            _name_type(one["schema"], document),
            _write_default(one["schema"]),
            end_sentence(escape_text(one.get("description", ""))),
        )
        for one in operation.get("parameters", ())
    ]
    parts = [
        f"## {method.upper()} {path} {{ #{_make_anchor(path, method)} }}",
        f"**{summary}** Scope: {_write_scope(path, method, operation)}.",
        text,
        write_table(("parameter", "in", "type and range", "default", "meaning"), parameters),
        _write_body(operation, document),
        _write_responses(operation),
    ]
    return "\n\n".join(part.rstrip() for part in parts if part) + "\n"


def _write_body(operation: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    content = operation.get("requestBody", {}).get("content", {})
    body = content.get("application/json", {}).get("schema")
    if body is None:
        return f"The body is {', '.join(map(write_code, content))}." if content else ""
    rows = _iter_fields(_follow(body, document), document)
    return write_table(("field of the body", "type and range", "default", "meaning"), rows)


def _iter_fields(
    schema: Mapping[str, Any], document: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, ...]]:
    """A row for each field; those of an object follow it."""
    required = set(schema.get("required", ()))
    for name, field in schema.get("properties", {}).items():
        yield (
            write_code(f"{prefix}{name}"),
            _name_type(field, document),
            "required" if name in required else _write_default(field),
            end_sentence(escape_text(field.get("description", ""))),
        )
        inner = field.get("items", field)
        if "$ref" in inner and _name_type(inner, document) == "object":
            dots = "[]." if inner is not field else "."
            yield from _iter_fields(_follow(inner, document), document, f"{prefix}{name}{dots}")


def _follow(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    target: Mapping[str, Any] = document["components"]["schemas"][name] if name else schema
    return target


def _name_type(schema: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    return name_type(schema, {"$defs": document["components"]["schemas"]})


def _write_default(schema: Mapping[str, Any]) -> str:
    default = schema.get("default")
    return "" if default in (None, {}, []) or isinstance(default, dict) else write_default(schema)


def _write_responses(operation: Mapping[str, Any]) -> str:
    responses = operation["responses"]
    named = [
        f"{status} {HTTPStatus(int(status)).phrase}" for status in responses if int(status) < 400
    ]
    errors = ", ".join(status for status in sorted(responses) if int(status) >= 400)
    return f"Responses: {', '.join(sorted(named))}; [errors](../problems.md) {errors}."
