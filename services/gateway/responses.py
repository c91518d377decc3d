"""Responses that several routes share."""

from __future__ import annotations

from typing import Any

from flask import Response, jsonify, request

from shared.artifacts import compute_sha256

RETRY_AFTER_S = "1"  # when to poll for the state of accepted work


def respond_with_etag(body: Any, etag: str) -> Response:
    """200 with the body, or 304 if the client already has this version."""
    response = jsonify(body)
    response.set_etag(etag)
    response.make_conditional(request)
    return response


def respond_with_digest_etag(body: Any) -> Response:
    """200 or 304, for resources without a version: the body's digest is the ETag."""
    response = jsonify(body)
    response.set_etag(compute_sha256(response.get_data())[:32])
    response.make_conditional(request)
    return response


def respond_accepted(body: Any, location: str, *, replayed: bool = False) -> Response:
    """202: the work is stored and will be done; `location` is where to poll its state."""
    response = jsonify(body)
    response.status_code = 202
    response.headers["Location"] = location
    response.headers["Retry-After"] = RETRY_AFTER_S
    if replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return response
