"""Every error leaves as RFC 9457 problem+json: ours, the framework's, and those nobody foresaw."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from flask import Flask, Response, json, request
from pydantic import BaseModel, Field, ValidationError
from werkzeug.exceptions import HTTPException

from shared.errors import Conflict, InvalidRequest, NotFound, TransientError

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = 2  # seconds
MAX_TEXT = 1000  # what came in is quoted in messages: a hostile body must not come back as a whole
MAX_ERRORS = 50


class FieldError(BaseModel):
    """One thing wrong with the request."""

    field: str = Field(description="dotted path into the request; empty for the whole")
    message: str


class Problem(BaseModel):
    """An error, as RFC 9457 has it."""

    type: str = Field(description="urn:palimpsest:problem:KIND, for programs")
    title: str = Field(description="the kind of error, in words")
    status: int
    detail: str = Field("", description="what happened and what to do")
    instance: str = Field(description="the path that was asked for")
    field: str | None = Field(None, description="the first field that is wrong (422)")
    errors: list[FieldError] | None = Field(None, description="all fields that are wrong (422)")


def _documented(status: HTTPStatus) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": status.phrase, "content": {MEDIA_TYPE: {"schema": schema}}}


def documented(*statuses: int) -> dict[Any, Any]:
    """These errors as OpenAPI responses; 401 and 503 can come from anywhere."""
    return {str(s): _documented(HTTPStatus(s)) for s in sorted({401, 503, *statuses})}


def problem(
    status: int, detail: str, *, errors: list[FieldError] | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """The response for one error."""
    title = HTTPStatus(status).phrase
    body: dict[str, Any] = {
        "type": f"urn:palimpsest:problem:{title.lower().replace(' ', '-')}",
        "title": title,
        "status": status,
        "detail": _short(detail),
        "instance": _short(request.path),
    }
    if errors:
        body["field"] = _short(errors[0].field)
        body["errors"] = [{"field": _short(e.field), "message": _short(e.message)} for e in errors[:MAX_ERRORS]]
    response = Response(json.dumps(body), status=status, content_type=MEDIA_TYPE)
    response.headers.update(dict(headers or {}))
    return response


def _short(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def invalid(error: ValidationError) -> Response:
    """What pydantic found wrong with a path, a query, a header or a body."""
    found = [
        FieldError(field=".".join(str(part) for part in e["loc"]), message=e["msg"])
        for e in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    return problem(422, "; ".join(f"{e.field}: {e.message}" if e.field else e.message for e in found[:5]), errors=found)


def install(app: Flask) -> None:
    """Register the handlers."""

    @app.errorhandler(InvalidRequest)
    def _invalid(error: InvalidRequest) -> Response:
        return problem(422, error.message, errors=[FieldError(field=error.field, message=error.message)])

    @app.errorhandler(NotFound)
    def _not_found(error: NotFound) -> Response:
        return problem(404, str(error))

    @app.errorhandler(Conflict)
    def _conflict(error: Conflict) -> Response:
        return problem(409, str(error))

    @app.errorhandler(TransientError)
    def _transient(error: TransientError) -> Response:
        log.warning("a service did not answer", path=request.path, error=str(error))
        return problem(503, f"try again in {RETRY_AFTER} s: {error}", headers={"Retry-After": str(RETRY_AFTER)})

    @app.errorhandler(HTTPException)
    def _http(error: HTTPException) -> Response:
        kept = {k: v for k, v in error.get_headers() if k.lower() not in ("content-type", "content-length")}
        detail = error.description or ""
        if error.code == 404:
            detail = f"there is no {_short(request.path)} here: /openapi lists what there is"
        return problem(error.code or 500, detail, headers=kept)

    @app.errorhandler(Exception)
    def _unforeseen(error: Exception) -> Response:
        log.exception("unforeseen error", path=request.path, method=request.method, error=type(error).__name__)
        return problem(500, "a defect of the gateway: its log has the details")
