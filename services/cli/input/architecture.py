"""Parsing of what says how a model is built: `timm:resnet18`, `3x32x32`, `.49,.48,.45`."""

from __future__ import annotations

import re
from typing import Any

from services.cli.input.params import parse_choice
from services.cli.output.console import UsageError


def parse_model(text: str) -> Any:
    """`convnet:width=16`; for libraries of models, the model's name alone: `timm:resnet18`."""
    name, colon, rest = text.partition(":")
    if colon and "=" not in rest:
        return {"name": name, "params": {"name": rest}}
    return parse_choice(text, "--model")


def parse_shape(text: str) -> tuple[int, int, int]:
    """`3x32x32`.

    Raises:
        UsageError: it is no such shape.
    """
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})x(\d{1,5})", text)
    if match is None:
        raise UsageError(f"--input {text!r}: expected CxHxW, such as 3x32x32")
    return int(match[1]), int(match[2]), int(match[3])


def parse_numbers(text: str | None, option: str) -> list[float] | None:
    """Numbers between commas.

    Raises:
        UsageError: one is no number.
    """
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"{option} {text!r}: expected numbers, such as .49,.48,.45") from error
