"""What the user types, read: NAME=VALUE, ROLE=SOURCE, PLUGIN:NAME=VALUE."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, NoReturn

from services.cli.output import WrongUse


def params(words: Iterable[str], option: str = "--param") -> dict[str, Any]:
    """`size=32`, `model.name=convnet`, `data={"name":"x"}`: dots lead into objects, values are JSON where they can be.

    Raises:
        WrongUse: a word is not NAME=VALUE, or two of them disagree.
    """
    made: dict[str, Any] = {}
    for word in words:
        name, sign, text = word.partition("=")
        if not sign or not name or "" in name.split("."):
            raise WrongUse(f"{option} {word!r}: write NAME=VALUE, such as {option} size=32")
        *outer, last = name.split(".")
        place = made
        for part in outer:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise WrongUse(f"{option} {word!r}: {part!r} has a value of its own already")
        if last in place:
            raise WrongUse(f"{option} {word!r}: {name!r} is given twice")
        place[last] = value(text)
    return made


def choice(word: str, option: str) -> Any:
    """`retrain`, or with parameters `feature_recovery:iterations=200,gradient_from=base`.

    Raises:
        WrongUse: as `params`.
    """
    name, colon, rest = word.partition(":")
    if not name:
        raise WrongUse(f"{option} {word!r}: write a name, or NAME:PARAM=VALUE,PARAM=VALUE")
    if not colon:
        return name
    # a comma within a value, as in a list, is not followed by NAME=
    return {"name": name, "params": params(re.split(r",(?=[A-Za-z_][\w.]*=)", rest), option)}


def value(text: str) -> Any:
    """JSON if it is JSON, a number if Python reads one, else the text itself."""
    try:
        found = json.loads(text, parse_constant=_refuse)
        json.dumps(found, allow_nan=False)  # 1e999 is JSON, and infinite
        return found
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
