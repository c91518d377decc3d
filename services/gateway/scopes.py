"""Which scope of a key a route needs.

By default GET and HEAD need `read` and everything else `submit`. A route that needs another one
declares it below its path:

    @routes.get("/keys", responses=...)
    @require_scope(ADMIN)
    def list_keys(...): ...
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from flask import Flask

from shared.jobs.keys import READ, SCOPES, SUBMIT

View = TypeVar("View", bound=Callable[..., Any])

ANY = "any"  # whoever has a valid key
READ_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_ATTRIBUTE = "palimpsest_scope"


def require_scope(scope: str) -> Callable[[View], View]:
    """Declare that a route needs this scope, one of `SCOPES`, or no particular one (`ANY`)."""
    if scope not in (*SCOPES, ANY):
        raise ValueError(f"there is no scope {scope}")

    def declare(view: View) -> View:
        setattr(view, _ATTRIBUTE, scope)
        return view

    return declare


def find_scope(app: Flask, endpoint: str, method: str) -> str:
    """The scope that a request of this method to this endpoint needs, or `ANY`."""
    declared: str | None = getattr(app.view_functions[endpoint], _ATTRIBUTE, None)
    return declared or (READ if method in READ_METHODS else SUBMIT)
