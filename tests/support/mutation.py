"""The product's code with one thing wrong in it, for as long as a test lasts."""

from __future__ import annotations
import __future__

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

import pytest


def mutate(
    monkeypatch: pytest.MonkeyPatch, function: Callable[..., Any], original: str, replacement: str
) -> None:
    """Replace `original`, which its source holds once, in a function that closes over nothing but
    for its decorators.

    The function's own code is exchanged, so that whoever has imported it runs the mutant too.
    """
    function = inspect.unwrap(function)
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(original) == 1, (
        f"{function.__qualname__} holds {original!r} {source.count(original)} times"
    )
    tree = ast.parse(source.replace(original, replacement))
    (defined,) = tree.body
    assert isinstance(defined, ast.FunctionDef)
    defined.decorator_list = []
    scope = dict(function.__globals__)
    exec(
        compile(
            tree, "mutant", "exec", flags=__future__.annotations.compiler_flag, dont_inherit=True
        ),
        scope,
    )
    monkeypatch.setattr(function, "__code__", scope[defined.name].__code__)
