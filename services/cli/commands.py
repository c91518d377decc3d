"""Commands whose options come from a table: typer reads a function's signature, so one is made."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any


def parameter(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    """One option or argument; without a default it is needed."""
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=annotation)


def parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """What a function takes by name, with its annotations resolved."""
    found = inspect.signature(function, eval_str=True).parameters.values()
    return [p for p in found if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]


def command(
    call: Callable[..., None], name: str, about: str, takes: Iterable[inspect.Parameter]
) -> Callable[..., None]:
    """A function that typer sees taking `takes`; it hands them to `call` by name."""

    def made(**given: Any) -> None:
        call(**given)

    # what needs no default goes first, as in any signature
    ordered = sorted(takes, key=lambda p: p.default is not inspect.Parameter.empty)
    made.__name__, made.__doc__ = name, about
    made.__annotations__ = {p.name: p.annotation for p in ordered}
    made.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]  # what typer reads
    return made
