"""Corrections of the OpenAPI document that is generated from the routes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from services.gateway.problems import document_errors

# Possible for every request with a body.
_BODY_ERRORS = document_errors(400, 403, 408, 413)
# Sent by the server before there is a request, without a body.
_HEAD_ERRORS = {
    "414": {"description": "the URL is too long"},
    "431": {"description": "the headers are too large"},
}
# Where ids come from: responses that create, and responses that list.
_CREATED_ID, _LISTED_ID = "$response.body#/id", "$response.body#/items/0/id"


def complete_document(spec: dict[str, Any]) -> None:
    """Correct the generated document in place."""
    for _, method, operation in _iterate_operations(spec):
        responses = operation["responses"]
        for status, response in {
            **(_BODY_ERRORS if method == "post" else {}),
            **_HEAD_ERRORS,
        }.items():
            responses.setdefault(status, response)
        for parameter in operation.get("parameters", ()):
            _remove_null(parameter["schema"])
    events = spec["paths"]["/v1/jobs/{job_id}/events"]["get"]["responses"]["200"]["content"]
    events["text/event-stream"] = {"schema": {"type": "string"}}
    for path, parameter, status in (
        ("/v1/jobs", "job_id", "202"),
        ("/v1/audits", "audit_id", "202"),
        ("/v1/webhooks", "webhook_id", "201"),
    ):
        spec["paths"][path]["post"]["responses"][status]["links"] = _build_links(
            spec, parameter, _CREATED_ID
        )
        spec["paths"][path]["get"]["responses"]["200"]["links"] = _build_links(
            spec, parameter, _LISTED_ID
        )


def _iterate_operations(spec: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in spec["paths"].items():
        yield from (
            (path, method, methods[method]) for method in ("get", "post") if method in methods
        )


def _build_links(spec: dict[str, Any], parameter: str, id_expression: str) -> dict[str, Any]:
    """To every operation with this id in its path."""
    return {
        operation["operationId"]: {
            "operationId": operation["operationId"],
            "parameters": {parameter: id_expression},
        }
        for path, _, operation in _iterate_operations(spec)
        if f"{{{parameter}}}" in path
    }


def _remove_null(schema: dict[str, Any]) -> None:
    """Parameters and headers cannot be null: an optional one is absent, and "null" is a string."""
    alternatives = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    if len(alternatives) == 1:
        del schema["anyOf"]
        schema.update(alternatives[0])
    if schema.get("default", ...) is None:
        del schema["default"]
