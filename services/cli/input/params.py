"""Parsing of command-line values: NAME=VALUE, ROLE=SOURCE, PLUGIN:NAME=VALUE."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from services.cli.output.console import UsageError
from services.values import parse_value


def parse_params(assignments: Iterable[str], option: str = "--param") -> dict[str, Any]:
    """Parse `size=32`, `model.name=convnet`, `data={"name":"x"}`: dots nest, values are JSON where
    they can be.

    Raises:
        UsageError: a word is not NAME=VALUE, or two of them disagree.
    """
    parsed: dict[str, Any] = {}
    for assignment in assignments:
        name, sign, text = assignment.partition("=")
        if not sign or not name or "" in name.split("."):
            raise UsageError(
                f"{option} {assignment!r}: expected NAME=VALUE, such as {option} size=32"
            )
        *outer, last = name.split(".")
        target = parsed
        for part in outer:
            target = target.setdefault(part, {})
            if not isinstance(target, dict):
                raise UsageError(f"{option} {assignment!r}: {part!r} already has a value")
        if last in target:
            raise UsageError(f"{option} {assignment!r}: {name!r} is given twice")
        target[last] = parse_value(text)
    return parsed


def parse_labels(words: Iterable[str] | None, option: str = "--label") -> dict[str, str] | None:
    """`team=red`; None if there are none.

    Raises:
        UsageError: one is not KEY=VALUE, or is given twice.
    """
    if not words:
        return None
    labels: dict[str, str] = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign or not key or key in labels:
            raise UsageError(f"{option} {word!r}: expected KEY=VALUE, each key once")
        labels[key] = value
    return labels


def parse_choice(text: str, option: str) -> Any:
    """Parse `retrain`, or with parameters `feature_recovery:iterations=200,gradient_from=base`; or
    a declared data set, `declared:mine@2`.

    Raises:
        UsageError: as `parse_params`.
    """
    name, colon, rest = text.partition(":")
    if not name:
        raise UsageError(f"{option} {text!r}: expected NAME, or NAME:PARAM=VALUE,PARAM=VALUE")
    if not colon:
        return name
    if name == "declared":
        return {"declared": rest}
    return {"name": name, "params": parse_param_list(rest, option)}


def parse_param_list(text: str, option: str) -> dict[str, Any]:
    """Parse `epochs=20,lr=0.1`.

    Raises:
        UsageError: as `parse_params`.
    """
    # a comma within a value, as in a list, is not followed by NAME=
    return parse_params(re.split(r",(?=[A-Za-z_][\w.]*=)", text), option)


def parse_inputs(assignments: Iterable[str]) -> dict[str, Any]:
    """Parse `ORIGINAL=job_...`, `ORIGINAL=job_...:RELEASED` (another role of that job),
    `BASE=<sha256>`.

    Raises:
        UsageError: a word is none of these, or a role is given twice.
    """
    parsed: dict[str, Any] = {}
    for assignment in assignments:
        role, sign, source = assignment.partition("=")
        if not sign or not role or not source:
            raise UsageError(
                f"--input {assignment!r}: expected ROLE=JOB, "
                "such as --input BASE=job_0123456789abcdef0123"
            )
        if role in parsed:
            raise UsageError(f"--input {assignment!r}: {role} is given twice")
        job, colon, other = source.partition(":")
        parsed[role] = {"job": job, "role": other} if colon else source
    return parsed
