"""/assets: scripts, styles and icons. They are the same for everyone and need no key."""

from __future__ import annotations

import hashlib

from flask import Response, request

from services.gateway.console._pages import guess_media_type, make_pages, read_asset
from services.gateway.scopes import ANY, require_scope
from shared.errors import NotFound

pages = make_pages("assets")

FOR_GOOD = "public, max-age=31536000, immutable"


@pages.get("/assets/<path:filename>")
@require_scope(ANY)
def get_asset(filename: str) -> Response:
    """One file."""
    data = read_asset(filename)
    if data is None:
        raise NotFound(f"there is no asset {filename[:80]!r}")
    response = Response(data, content_type=guess_media_type(filename))
    response.set_etag(hashlib.sha256(data).hexdigest())
    response.headers["Cache-Control"] = FOR_GOOD if "v" in request.args else "no-cache"
    response.make_conditional(request)
    return response
