"""Answers that several routes give."""

from __future__ import annotations

from typing import Any

from flask import Response, jsonify, request

from shared.artifacts import digest

RETRY_AFTER = "1"  # seconds after which it is worth asking what became of accepted work


def with_etag(body: Any, etag: str) -> Response:
    """200 with the body, or 304 if the caller has this version already."""
    response = jsonify(body)
    response.set_etag(etag)
    response.make_conditional(request)
    return response


def by_content(body: Any) -> Response:
    """200 or 304, for what has no version of its own: the body's digest is its ETag."""
    response = jsonify(body)
    response.set_etag(digest(response.get_data())[:32])
    response.make_conditional(request)
    return response


def accepted(body: Any, location: str, *, replayed: bool = False) -> Response:
    """202: the work is stored and will be done; `location` says how it goes."""
    response = jsonify(body)
    response.status_code = 202
    response.headers["Location"] = location
    response.headers["Retry-After"] = RETRY_AFTER
    if replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return response
