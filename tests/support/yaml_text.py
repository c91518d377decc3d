"""YAML for tests, read as the product reads it."""

from __future__ import annotations

from typing import Any

from ruamel.yaml import YAML


def load_yaml(text: str) -> Any:
    """The value that a document holds."""
    return YAML(typ="safe", pure=True).load(text)
