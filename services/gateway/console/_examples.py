"""The example audits that come along, to begin with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from services.audit_text import parse_audit_text

# `examples` of the source tree, or as setup.py and the image have it
FOLDERS = (Path(__file__).parent / "examples", Path(__file__).parents[3] / "examples")
DEFAULTS = {"defenses": ["none"]}  # of fields that examples leave out
FIRST = "quick"  # what a new form shows


@dataclass(frozen=True)
class Example:
    """An audit that comes along."""

    key: str
    title: str
    spec: Mapping[str, Any]


@cache
def load_examples() -> Mapping[str, Example]:
    """All examples by their file's name; none if this installation has no such files."""
    paths = next((files for folder in FOLDERS if (files := sorted(folder.glob("*.yaml")))), [])
    parsed = {path.stem: parse_audit_text(path.read_bytes(), path.name).spec for path in paths}
    keys = sorted(parsed, key=lambda key: (key != FIRST, key))
    return {key: Example(key, str(parsed[key].get("name", key)), parsed[key]) for key in keys}


@cache
def rank_choices(field: str) -> Mapping[str, int]:
    """The names that examples choose in a field of an audit, by when they come first: what a form
    shows first."""
    names: dict[str, None] = {}
    for example in load_examples().values():
        value = example.spec.get(field, DEFAULTS.get(field, []))
        for choice in value if isinstance(value, list) else [value]:
            names.setdefault(choice if isinstance(choice, str) else choice["name"])
    return {name: n for n, name in enumerate(names)}
