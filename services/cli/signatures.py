"""Typer commands whose options come from a table: typer reads a function's signature, so one is
built."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any


def make_parameter(
    name: str, annotation: Any, default: Any = inspect.Parameter.empty
) -> inspect.Parameter:
    """One option or argument; required if it has no default."""
    return inspect.Parameter(
        name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=annotation
    )


def list_parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """A function's named parameters, with their annotations resolved."""
    params = inspect.signature(function, eval_str=True).parameters.values()
    return [p for p in params if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]


def make_command(
    function: Callable[..., None], name: str, help_text: str, params: Iterable[inspect.Parameter]
) -> Callable[..., None]:
    """A function with these parameters, for typer; it calls `function` with them by name."""

    def wrapper(**given: Any) -> None:
        function(**given)

    # parameters without a default come first, as in any signature
    ordered = sorted(params, key=lambda p: p.default is not inspect.Parameter.empty)
    wrapper.__name__, wrapper.__doc__ = name, help_text
    wrapper.__annotations__ = {p.name: p.annotation for p in ordered}
    wrapper.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]  # typer reads it; functions do not declare it
    return wrapper
