"""Evaluations as they came in, and what makes two methods one and the same."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from shared.errors import InvalidRequest
from shared.evaluation import Defense, Evaluation, Method, StrengthChoice, Unlearning

MAX_NESTING = 32  # what is nested in what is nested: nobody means that


@dataclass(frozen=True)
class LoadedEvaluation:
    """An evaluation and the sha256 of its bytes. What was not told is named so, never guessed."""

    evaluation: Evaluation
    sha256: str

    @property
    def unlearning(self) -> Unlearning:
        record = self.evaluation.unlearning
        return (
            Unlearning.model_validate(record.model_dump())
            if record
            else Unlearning(method="not stated")
        )

    @property
    def defense(self) -> Defense:
        return self.evaluation.defense or Defense(method="not stated")

    @property
    def attack(self) -> Method | None:
        """None where nothing was attacked."""
        return self.evaluation.attack or (
            Method(method="not stated") if self.evaluation.metrics else None
        )


def parse_json(data: bytes, role: str, field: str) -> Any:
    """The JSON value of an artifact, one that can be written again.

    Raises:
        InvalidRequest: it is no such value; the message names the role.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{role} is not JSON: {error}", field) from error
    check_json(value, role, field)
    return value


def check_json(value: Any, subject: str, field: str) -> None:
    """Refuse what Python reads as JSON and cannot be written again: NaN, halves of characters,
    endless nesting.

    Raises:
        InvalidRequest: it is such a value; the message starts with `what`.
    """

    def is_deeper(value: Any, levels_left: int) -> bool:
        inner = (
            value.values()
            if isinstance(value, dict)
            else value
            if isinstance(value, (list, tuple))
            else ()
        )
        return levels_left < 0 or any(is_deeper(one, levels_left - 1) for one in inner)

    if is_deeper(value, MAX_NESTING):
        raise InvalidRequest(f"{subject} is nested deeper than {MAX_NESTING}", field)
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except ValueError as error:
        raise InvalidRequest(f"{subject} is not JSON: {error}", field) from error


def is_adaptive(attack: Method) -> bool:
    """Whether the attacker knows the defense."""
    return attack.params.get("adaptive") is True


def without_adaptive(attack: Method) -> Method:
    """The attack without a word on whether the attacker knows the defense: one and the same for
    both."""
    return Method(
        method=attack.method, params={n: v for n, v in attack.params.items() if n != "adaptive"}
    )


def without_strength(method: Method) -> Method:
    """The method without the strength that was chosen for its seed: the same for all seeds."""
    strength: StrengthChoice | None = method.strength if isinstance(method, Defense) else None
    params = {
        name: value
        for name, value in method.params.items()
        if strength is None or name != strength.name
    }
    return Method(method=method.method, params=params)


def method_key(method: Method) -> tuple[str, str]:
    """What makes two methods the same choice of the audit: a strength that was chosen for a seed
    does not."""
    return method.method, json.dumps(without_strength(method).params, sort_keys=True)
