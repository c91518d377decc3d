"""Security headers of every response."""

from __future__ import annotations

from flask import Flask, Response

_API_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"


def install(app: Flask) -> None:
    """Add the headers that a route has not set."""

    @app.after_request
    def _set_headers(response: Response) -> Response:
        headers = response.headers
        headers.setdefault("X-Content-Type-Options", "nosniff")
        headers.setdefault("X-Frame-Options", "DENY")
        headers.setdefault("Referrer-Policy", "no-referrer")
        headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
        headers.setdefault("Content-Security-Policy", _API_POLICY)
        if "Cache-Control" not in headers:
            # with an ETag, a client may cache the response if it revalidates each time
            headers["Cache-Control"] = "private, no-cache" if "ETag" in headers else "no-store"
        return response
