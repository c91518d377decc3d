"""Edits of an audit by paths: `attacks.0.params.iterations=200`."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from services.cli.output.console import UsageError
from services.values import parse_value


def edit_spec(spec: dict[str, Any], assignments: Iterable[str], removals: Iterable[str]) -> Any:
    """A copy of an audit in which values are set, or removed, so that they have their defaults.

    A path leads through keys and places of lists, from 0; one place after the last appends. Values
    are JSON where they can be. A choice that is only a name becomes one with parameters when a path
    leads into it.

    Raises:
        UsageError: an assignment is not PATH=VALUE, or a path leads nowhere.
    """
    edited = copy.deepcopy(spec)
    for assignment in assignments:
        path, sign, text = assignment.partition("=")
        if not sign:
            raise UsageError(f"--set {assignment!r}: expected PATH=VALUE, such as seeds=[1,2]")
        _set(edited, path, parse_value(text), f"--set {assignment!r}")
    for path in removals:
        _remove(edited, path, f"--unset {path!r}")
    return edited


def _set(spec: Any, path: str, value: Any, option: str) -> None:
    target, last = _walk(spec, path, option, create=True)
    if isinstance(target, list):
        place = _find_place(target, last, option, may_append=True)
        target[place : place + 1] = [value]
    else:
        target[last] = value


def _remove(spec: Any, path: str, option: str) -> None:
    target, last = _walk(spec, path, option, create=False)
    if isinstance(target, list):
        del target[_find_place(target, last, option)]
    elif last in target:
        del target[last]
    else:
        raise UsageError(f"{option}: there is no {last!r}; the audit has its default already")


def _walk(spec: Any, path: str, option: str, *, create: bool) -> tuple[Any, str]:
    """The value that holds the last part of a path, and that part."""
    *outer, last = path.split(".")
    if "" in (*outer, last):
        raise UsageError(f"{option}: {path!r} is not a path, such as attacks.0.params.iterations")
    target = spec
    for part in outer:
        if isinstance(target, list):
            place: Any = _find_place(target, part, option)
        else:
            place = part
            if create:
                target.setdefault(part, {})
            if part not in target:
                raise UsageError(f"{option}: the audit has no {part!r}")
        if isinstance(target[place], str):
            target[place] = {"name": target[place], "params": {}}
        target = target[place]
        if not isinstance(target, dict | list):
            raise UsageError(f"{option}: {part!r} is {target!r}, and has no parts")
    return target, last


def _find_place(values: list[Any], part: str, option: str, *, may_append: bool = False) -> int:
    last = len(values) if may_append else len(values) - 1
    if not (part.isascii() and part.isdecimal()) or int(part) > last:
        raise UsageError(
            f"{option}: {part!r} is not an index of a list of {len(values)}: 0 to {last}"
        )
    return int(part)
