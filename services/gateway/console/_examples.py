"""The example audits that come along, to begin with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from services.audit_text import parse_audit_text

# `examples` of the source tree, or as setup.py and the image have it
FOLDERS = (Path(__file__).parent / "examples", Path(__file__).parents[3] / "examples")
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
    paths = next((found for folder in FOLDERS if (found := sorted(folder.glob("*.yaml")))), [])
    parsed = {path.stem: parse_audit_text(path.read_bytes(), path.name).spec for path in paths}
    keys = sorted(parsed, key=lambda key: (key != FIRST, key))
    return {key: Example(key, str(parsed[key].get("name", key)), parsed[key]) for key in keys}


@cache
def count_choices(field: str) -> Mapping[str, int]:
    """How often examples choose each name in a field of an audit: what is shown first."""
    counts: Counter[str] = Counter()
    for example in load_examples().values():
        value = example.spec.get(field, [])
        for choice in value if isinstance(value, list) else [value]:
            counts[choice if isinstance(choice, str) else choice["name"]] += 1
    return counts
