"""What all pages share: their blueprint, and how a template becomes a response."""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, g, request
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from services.gateway.clock import read_request_time
from services.gateway.console import words
from services.gateway.console.form_tokens import FIELD, make_form_token
from services.gateway.deps import current_gateway
from services.gateway.schemas import make_preview_url
from shared import VERSION
from shared.jobs.keys import ADMIN, READ
from shared.reporting.page import TEMPLATES as REPORT_TEMPLATES

FOLDER = Path(__file__).parent
STATIC = FOLDER / "static"
# Styles of the report that pages use too: its colours, so that both look the same, and how its
# parts look where a page shows them.
SHARED_STYLES: Mapping[str, Callable[[str], str]] = {
    "theme.css": lambda css: css,
    "report.css": lambda css: f".report {{\n{css}\n}}\n",
}
# Beside the home page: address, name, and the scope without which it is not offered.
NAV = (
    ("/audits", "Audits", READ),
    ("/jobs", "Jobs", READ),
    ("/models", "Models", READ),
    ("/datasets", "Data sets", READ),
    ("/artifacts", "Files", READ),
    ("/workers", "Workers", READ),
    ("/webhooks", "Webhooks", READ),
    ("/keys", "Keys", ADMIN),
    ("/openapi/", "API", READ),
)
# Endpoints of flask-openapi whose pages are ours (`api_reference.py`).
API_PAGES = frozenset({"openapi.openapi", "swagger.swagger", "scalar.scalar"})
THEME_COOKIE = "palimpsest_theme"
THEMES = ("light", "dark")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def make_pages(name: str) -> Blueprint:
    """A blueprint of pages."""
    return Blueprint(f"console_{name}", __name__)


def is_page(endpoint: str | None) -> bool:
    """Whether an endpoint is one of a page, not of the API."""
    return endpoint is not None and (endpoint.startswith("console_") or endpoint in API_PAGES)


def render_page(template: str, status: int = 200, **context: Any) -> Response:
    """A page, or what is to replace a part of one. Everything from users is escaped.

    Who has signed in is `me` in the template, None before.
    """
    theme = request.cookies.get(THEME_COOKIE)
    html = (
        _load_environment()
        .get_template(template)
        .render(
            me=g.get("principal"),
            nav=NAV,
            form_token=make_form_token(),
            form_field=FIELD,
            theme=theme if theme in THEMES else None,
            path=request.path,
            version=VERSION,
            now=read_request_time,
            signs=current_gateway().deps.signing_key is not None,
            **context,
        )
    )
    response = Response(html, status, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = POLICY
    # without a referrer a browser also hides the origin of forms, which is checked
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["Vary"] = "Cookie"
    return response


def read_asset(name: str) -> bytes | None:
    """The file that is served under this name; None if there is none."""
    if name in SHARED_STYLES:
        return SHARED_STYLES[name]((REPORT_TEMPLATES / name).read_text()).encode()
    path = (STATIC / name).resolve()
    is_ours = path.is_relative_to(STATIC.resolve()) and path.is_file()
    return path.read_bytes() if is_ours else None


@cache
def get_asset_url(name: str) -> str:
    """Its URL, which is another one for another content: browsers keep it for good."""
    data = read_asset(name)
    if data is None:
        raise FileNotFoundError(f"there is no asset {name}")
    return f"/assets/{name}?v={hashlib.sha256(data).hexdigest()[:12]}"


def guess_media_type(name: str) -> str:
    """By the name's ending."""
    if name.endswith(".js"):
        return "text/javascript; charset=utf-8"
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


@cache
def _load_environment() -> Environment:
    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(FOLDER / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(asset=get_asset_url, preview_url=make_preview_url)
    environment.filters.update(words.FILTERS)
    return environment
