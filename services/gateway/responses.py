"""Responses that several routes share."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

from flask import Response, jsonify, request

from shared.artifacts import compute_sha256

RETRY_AFTER_S = "1"  # when to poll for the state of accepted work
BEGINNING_BYTES = 256 << 10


def respond_with_digest_etag(body: Any) -> Response:
    """200 with the body, or 304 if the client already has it: its digest is the ETag."""
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


def compute_beginning(chunks: Generator[bytes, None, None]) -> Iterator[bytes]:
    """The same chunks, of which the first are computed now: an error in them still becomes a
    response, and one in the others only breaks the response off."""
    beginning: list[bytes] = []
    size = 0
    while size < BEGINNING_BYTES and (chunk := next(chunks, None)) is not None:
        beginning.append(chunk)
        size += len(chunk)

    def follow() -> Iterator[bytes]:
        try:
            while beginning:
                yield beginning.pop(0)
            yield from chunks
        finally:
            chunks.close()

    return follow()
