"""The OpenAPI document, where what is generated from the routes says too little or too much."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from services.gateway.problems import documented

# What any request with a body can be answered with, whatever its route says.
_OF_BODIES = documented(400, 403, 408, 413)
# What the server says of heads, before there is a request; these have no body.
_OF_HEADS = {"414": {"description": "the address is too long"}, "431": {"description": "the headers are too large"}}
# Where ids come from: of what is made, and of what is listed.
_MADE, _LISTED = "$response.body#/id", "$response.body#/items/0/id"


def complete(spec: dict[str, Any]) -> None:
    """Correct the generated document in place."""
    for _, method, operation in _operations(spec):
        responses = operation["responses"]
        for status, response in {**(_OF_BODIES if method == "post" else {}), **_OF_HEADS}.items():
            responses.setdefault(status, response)
        for parameter in operation.get("parameters", ()):
            _without_null(parameter["schema"])
    events = spec["paths"]["/v1/jobs/{job_id}/events"]["get"]["responses"]["200"]["content"]
    events["text/event-stream"] = {"schema": {"type": "string"}}
    for path, parameter in (("/v1/jobs", "job_id"), ("/v1/audits", "audit_id")):
        spec["paths"][path]["post"]["responses"]["202"]["links"] = _links(spec, parameter, _MADE)
        spec["paths"][path]["get"]["responses"]["200"]["links"] = _links(spec, parameter, _LISTED)


def _operations(spec: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in spec["paths"].items():
        yield from ((path, method, methods[method]) for method in ("get", "post") if method in methods)


def _links(spec: dict[str, Any], parameter: str, source: str) -> dict[str, Any]:
    """To every operation with this id in its path."""
    return {
        operation["operationId"]: {"operationId": operation["operationId"], "parameters": {parameter: source}}
        for path, _, operation in _operations(spec)
        if f"{{{parameter}}}" in path
    }


def _without_null(schema: dict[str, Any]) -> None:
    """Addresses and headers have no null: what may be left out is not there, and "null" is a text."""
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    if len(choices) == 1:
        del schema["anyOf"]
        schema.update(choices[0])
    if schema.get("default", ...) is None:
        del schema["default"]
