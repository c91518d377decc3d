"""Headers that every answer carries."""

from __future__ import annotations

from flask import Flask, Response, request

# The documentation pages run their own scripts and styles; nothing is loaded from elsewhere.
_PAGES = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_DATA = "default-src 'none'; frame-ancestors 'none'; sandbox"


def install(app: Flask) -> None:
    """Set them where a route has not."""

    @app.after_request
    def _secure(response: Response) -> Response:
        headers = response.headers
        headers.setdefault("X-Content-Type-Options", "nosniff")
        headers.setdefault("X-Frame-Options", "DENY")
        headers.setdefault("Referrer-Policy", "no-referrer")
        headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
        headers.setdefault("Content-Security-Policy", _PAGES if request.path.startswith("/openapi") else _DATA)
        if "Cache-Control" not in headers:
            # what has an ETag may be kept by the caller if it asks each time
            headers["Cache-Control"] = "private, no-cache" if "ETag" in headers else "no-store"
        return response
