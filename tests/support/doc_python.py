"""Python in the documentation: whether what it imports and calls exists, without running it."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

OURS = {"palimpsest": "services.client"}  # the installed package, and its folder here


def find_wrong_names(text: str) -> list[str]:
    """What a block of Python would stumble over: imports, names, methods, arguments."""
    tree = ast.parse(text)
    imported = dict(_iter_imports(tree))
    wrong = [name for name, value in imported.items() if value is None]
    instances = dict(_iter_instances(tree, imported))
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        called = _find_called(call.func, imported, instances)
        if called is None:
            wrong.append(ast.unparse(call.func))
        elif called is not Ellipsis and (problem := _check_arguments(called, call)):
            wrong.append(f"{ast.unparse(call.func)}: {problem}")
    return wrong + _find_undefined(text)


def _iter_imports(tree: ast.Module) -> Iterator[tuple[str, Any]]:
    """The name and the value of what is imported; None if there is no such thing."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.split(".")[0]
                yield name, _import(alias.name if alias.asname else name)
        elif isinstance(node, ast.ImportFrom):
            module = _import(node.module or "")
            for alias in node.names:
                yield alias.asname or alias.name, getattr(module, alias.name, None)


def _import(module: str) -> Any:
    try:
        return importlib.import_module(OURS.get(module, module))
    except ImportError:
        return None


def _iter_instances(tree: ast.Module, imported: dict[str, Any]) -> Iterator[tuple[str, type]]:
    """Variables that hold an instance of an imported class."""
    for node in ast.walk(tree):
        pairs: list[tuple[ast.expr | None, ast.expr]] = []
        if isinstance(node, ast.Assign):
            pairs = [(target, node.value) for target in node.targets]
        elif isinstance(node, ast.With | ast.AsyncWith):
            pairs = [(item.optional_vars, item.context_expr) for item in node.items]
        for target, value in pairs:
            if isinstance(target, ast.Name) and isinstance(value, ast.Call):
                kind = imported.get(ast.unparse(value.func))
                if inspect.isclass(kind):
                    yield target.id, kind


def _find_called(function: ast.expr, imported: dict[str, Any], instances: dict[str, type]) -> Any:
    """What is called; None if it does not exist, ... if that is not known."""
    if isinstance(function, ast.Name):
        return imported.get(function.id, ...)
    if not isinstance(function, ast.Attribute):
        return ...
    owner: Any = ...
    if isinstance(function.value, ast.Name):
        name = function.value.id
        owner = instances.get(name, imported.get(name, ...))
    elif isinstance(function.value, ast.Call):
        kind = imported.get(ast.unparse(function.value.func), ...)
        owner = kind if inspect.isclass(kind) else ...
    return ... if owner is ... else getattr(owner, function.attr, None)


def _check_arguments(called: Any, call: ast.Call) -> str:
    if any(keyword.arg is None for keyword in call.keywords):
        return ""
    try:
        signature = inspect.signature(called)
        names = {keyword.arg: None for keyword in call.keywords if keyword.arg}
        signature.bind_partial(*call.args, **names)
    except TypeError as error:
        return str(error)
    except ValueError:  # written in C
        return ""
    return ""


def _find_undefined(text: str) -> list[str]:
    ruff = Path(sys.executable).parent / "ruff"
    done = subprocess.run(
        [ruff, "check", "--isolated", "--select", "F821,F822,F823,E9", "--output-format", "concise", "-"],
        input=text, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return [line for line in done.stdout.splitlines() if line.startswith("-:")]
