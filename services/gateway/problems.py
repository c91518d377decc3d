"""Every error response is RFC 9457 problem+json: for our errors, the framework's and unexpected
ones."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from flask import Flask, Response, json, request
from pydantic import BaseModel, Field, ValidationError
from werkzeug.exceptions import HTTPException

from services.gateway.request_id import get_request_id
from shared.errors import Conflict, Gone, InvalidRequest, NotFound, QuotaReached, TransientError
from shared.jobs.quotas import StorageFull
from shared.jobs.uploads import QuotaExceeded

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 2
MAX_TEXT_CHARS = 1000  # of quoted input, so that a hostile body is not echoed in full
MAX_ERRORS = 50


class FieldError(BaseModel):
    """One invalid field of the request."""

    field: str = Field(description="dotted path into the request; empty for the whole request")
    message: str


class Problem(BaseModel):
    """An error as RFC 9457 defines it."""

    type: str = Field(description="urn:palimpsest:problem:KIND, for programs")
    title: str = Field(description="the kind of error, in words")
    status: int
    detail: str = Field("", description="what happened and what to do")
    instance: str = Field(description="the requested path")
    request_id: str = Field(
        description="as in the header X-Request-ID and in the gateway's log of this request"
    )
    field: str | None = Field(None, description="the first invalid field (422)")
    errors: list[FieldError] | None = Field(None, description="all invalid fields (422)")


def _document_error(status: HTTPStatus) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": status.phrase, "content": {MEDIA_TYPE: {"schema": schema}}}


def document_errors(*statuses: int) -> dict[Any, Any]:
    """These errors as OpenAPI responses, with those that are possible on every route."""
    return {str(s): _document_error(HTTPStatus(s)) for s in sorted({401, 403, 429, 503, *statuses})}


def get_problem_type(status: int) -> str:
    """What programs tell errors apart by."""
    return f"urn:palimpsest:problem:{HTTPStatus(status).phrase.lower().replace(' ', '-')}"


def make_problem(
    status: int,
    detail: str,
    *,
    errors: list[FieldError] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The response for one error."""
    title = HTTPStatus(status).phrase
    body: dict[str, Any] = {
        "type": get_problem_type(status),
        "title": title,
        "status": status,
        "detail": _truncate(detail),
        "instance": _truncate(request.path),
        "request_id": get_request_id(),
    }
    if errors:
        body["field"] = _truncate(errors[0].field)
        body["errors"] = [
            {"field": _truncate(e.field), "message": _truncate(e.message)}
            for e in errors[:MAX_ERRORS]
        ]
    response = Response(json.dumps(body), status=status, content_type=MEDIA_TYPE)
    response.headers.update(dict(headers or {}))
    return response


def _truncate(text: str) -> str:
    return text if len(text) <= MAX_TEXT_CHARS else text[: MAX_TEXT_CHARS - 1] + "…"


def make_validation_problem(error: ValidationError) -> Response:
    """The response to an invalid path, query, header or body."""
    field_errors = [
        FieldError(field=".".join(str(part) for part in e["loc"]), message=e["msg"])
        for e in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    return make_problem(
        422,
        "; ".join(f"{e.field}: {e.message}" if e.field else e.message for e in field_errors[:5]),
        errors=field_errors,
    )


def install(app: Flask) -> None:
    """Register the error handlers."""

    @app.errorhandler(InvalidRequest)
    def _handle_invalid(error: InvalidRequest) -> Response:
        return make_problem(
            422, error.message, errors=[FieldError(field=error.field, message=error.message)]
        )

    @app.errorhandler(QuotaExceeded)
    def _handle_quota(error: QuotaExceeded) -> Response:
        return make_problem(507, str(error))

    @app.errorhandler(QuotaReached)
    def _handle_reached(error: QuotaReached) -> Response:
        return make_problem(429, str(error))

    @app.errorhandler(StorageFull)
    def _handle_full(error: StorageFull) -> Response:
        return make_problem(507, str(error))

    @app.errorhandler(Gone)
    def _handle_gone(error: Gone) -> Response:
        return make_problem(410, str(error))

    @app.errorhandler(NotFound)
    def _handle_not_found(error: NotFound) -> Response:
        return make_problem(404, str(error))

    @app.errorhandler(Conflict)
    def _handle_conflict(error: Conflict) -> Response:
        return make_problem(409, str(error))

    @app.errorhandler(TransientError)
    def _handle_transient(error: TransientError) -> Response:
        log.warning("a service did not answer", path=request.path, error=str(error))
        return make_problem(
            503,
            f"try again in {RETRY_AFTER_S} s: {error}",
            headers={"Retry-After": str(RETRY_AFTER_S)},
        )

    @app.errorhandler(HTTPException)
    def _handle_http(error: HTTPException) -> Response:
        headers = {
            k: v
            for k, v in error.get_headers()
            if k.lower() not in ("content-type", "content-length")
        }
        detail = error.description or ""
        if error.code == 404:
            detail = f"there is no route {_truncate(request.path)}: /openapi lists all routes"
        return make_problem(error.code or 500, detail, headers=headers)

    @app.errorhandler(Exception)
    def _handle_unexpected(error: Exception) -> Response:
        log.exception(
            "unexpected error", path=request.path, method=request.method, error=type(error).__name__
        )
        return make_problem(500, "internal error; see the gateway log")
