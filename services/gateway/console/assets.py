"""/assets: scripts, styles and icons. They are the same for everyone and need no key."""

from __future__ import annotations

from flask import Response, request, send_file

from services.gateway.console._pages import find_asset, guess_media_type, make_pages
from services.gateway.scopes import ANY, require_scope
from shared.errors import NotFound

pages = make_pages("assets")

FOR_GOOD = "public, max-age=31536000, immutable"


@pages.get("/assets/<path:filename>")
@require_scope(ANY)
def get_asset(filename: str) -> Response:
    """One file."""
    path = find_asset(filename)
    if path is None:
        raise NotFound(f"there is no asset {filename[:80]!r}")
    response = send_file(path, mimetype=guess_media_type(filename), etag=True, conditional=True)
    response.headers["Cache-Control"] = FOR_GOOD if "v" in request.args else "no-cache"
    return response
