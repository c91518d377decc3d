"""What goes wrong on a page is told on a page: the problem of a response, put in words."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import urlencode

from flask import Flask, json, request
from werkzeug.wrappers import Response as AnyResponse

from services.gateway.console._pages import is_page, render_page
from services.gateway.console.sign_in import ask_for_key
from services.gateway.problems import MEDIA_TYPE

HTML = "text/html"
NOTICE = "#notice"  # where a page tells what came of a button


def install(app: Flask) -> None:
    """Turn problems into pages. To be installed after whatever answers with problems."""

    @app.after_request
    def _show(response: AnyResponse) -> AnyResponse:
        if response.mimetype != MEDIA_TYPE or not _wants_page():
            return response
        status = response.status_code
        if status == HTTPStatus.UNAUTHORIZED:
            return _send_to_sign_in(response)
        problem = json.loads(response.get_data())
        if "HX-Request" in request.headers:
            shown = render_page("_notice.html", status, problem=problem)
            shown.headers.update({"HX-Retarget": NOTICE, "HX-Reswap": "innerHTML"})
        else:
            shown = render_page(
                "error.html", status, problem=problem, errors=problem.get("errors", [])
            )
        for name in ("Retry-After", "Allow", "Connection"):
            if name in response.headers:
                shown.headers[name] = response.headers[name]
        return shown


def _wants_page() -> bool:
    """Whether a browser asks for a page of ours, or for one that does not exist."""
    accepted = request.accept_mimetypes.best_match(["application/json", HTML])
    is_browser = accepted == HTML or "HX-Request" in request.headers
    return is_browser and (is_page(request.endpoint) or request.endpoint is None)


def _send_to_sign_in(problem: AnyResponse) -> AnyResponse:
    """The form to sign in, in the place of the page."""
    if "HX-Request" in request.headers:  # a part of a page whose session has ended: all of it again
        problem.headers["HX-Refresh"] = "true"
        return problem
    if request.method != "GET":
        return ask_for_key("/")
    # a wrong key in the address would be tried again, and stay in the browser's history
    query = urlencode([(k, v) for k, v in request.args.items(multi=True) if k != "token"])
    return ask_for_key(request.path + ("?" + query if query else ""))
