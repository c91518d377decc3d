"""What the user types, read: NAME=VALUE, ROLE=SOURCE, and YAML files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import yaml

from services.cli.output import WrongUse


def params(words: Iterable[str]) -> dict[str, Any]:
    """`size=32`, `model.name=convnet`, `data={"name":"x"}`: dots lead into objects, values are JSON where they can be.

    Raises:
        WrongUse: a word is not NAME=VALUE, or two of them disagree.
    """
    made: dict[str, Any] = {}
    for word in words:
        name, sign, text = word.partition("=")
        if not sign or not name or "" in name.split("."):
            raise WrongUse(f"--param {word!r}: write NAME=VALUE, such as --param size=32")
        *outer, last = name.split(".")
        place = made
        for part in outer:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise WrongUse(f"--param {word!r}: {part!r} has a value of its own already")
        if last in place:
            raise WrongUse(f"--param {word!r}: {name!r} is given twice")
        place[last] = value(text)
    return made


def value(text: str) -> Any:
    """JSON if it is JSON, a number if Python reads one, else the text itself."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        pass
    try:
        number = float(text)
    except ValueError:
        return text
    return number if number - number == 0 else text  # "nan" and "inf" are words here


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)


def inputs(words: Iterable[str]) -> dict[str, Any]:
    """`ORIGINAL=job_...`, `ORIGINAL=job_...:RELEASED` (another role of that job), `BASE=<sha256>`.

    Raises:
        WrongUse: a word is none of these, or a role is given twice.
    """
    made: dict[str, Any] = {}
    for word in words:
        role, sign, source = word.partition("=")
        if not sign or not role or not source:
            raise WrongUse(f"--input {word!r}: write ROLE=JOB, such as --input BASE=job_0123456789abcdef0123")
        if role in made:
            raise WrongUse(f"--input {word!r}: {role} is given twice")
        job, colon, other = source.partition(":")
        made[role] = {"job": job, "role": other} if colon else source
    return made


def audit_file(path: Path) -> dict[str, Any]:
    """An audit as YAML or JSON.

    Raises:
        WrongUse: it cannot be read, or is no audit.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        json.dumps(found, allow_nan=False)
    except OSError as error:
        raise WrongUse(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise WrongUse(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise WrongUse(f"{path} holds something that JSON cannot say: {error}") from error
    if not isinstance(found, dict):
        raise WrongUse(f"{path} holds no audit: it must be a mapping with dataset, model, unlearning and attacks")
    return found
