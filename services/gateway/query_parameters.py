"""Query parameters of requests that change something: only those that the route declares are accepted.

One that is ignored would be worse than useless here: whoever misspells `dry_run` means to change
nothing. And the access log relies on these parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, get_type_hints

from flask import Flask, Response, current_app, request
from pydantic import BaseModel, ValidationError

from services.gateway.problems import FieldError, make_problem
from services.gateway.scopes import READ_METHODS


def install(app: Flask) -> None:
    """Refuse parameters that a route does not declare, or that are given twice. Pages are not
    routes of the API, and read what they need."""

    @app.before_request
    def _refuse_undeclared() -> Response | None:
        if request.method in READ_METHODS or not request.path.startswith("/v1/"):
            return None
        if request.endpoint is None:
            return None  # there is no such route, or it does not take this method
        model = _find_current_model()
        for name, values in request.args.lists():
            if model is None or name not in model.model_fields:
                return _refuse(name, "there is no such query parameter on this route")
            if len(values) > 1:
                return _refuse(name, "give this query parameter once")
        return None


def is_requested(flag: str) -> bool:
    """Whether the route declares this flag and the request sets it, as the route will read it."""
    model = _find_current_model()
    if model is None or flag not in model.model_fields:
        return False
    try:
        return bool(getattr(model.model_validate(request.args.to_dict()), flag))
    except ValidationError:
        return False  # the route refuses it


def _refuse(name: str, message: str) -> Response:
    return make_problem(422, f"{name}: {message}", errors=[FieldError(field=name, message=message)])


def _find_current_model() -> type[BaseModel] | None:
    if request.endpoint is None:
        return None
    return _find_model(current_app.view_functions[request.endpoint])


@cache
def _find_model(view: Callable[..., Any]) -> type[BaseModel] | None:
    """The model that a route's argument `query` is of."""
    model: type[BaseModel] | None = get_type_hints(view).get("query")
    return model
