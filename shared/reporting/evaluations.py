"""Loaded evaluations, and when two methods are the same."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, TypeVar

from shared.errors import InvalidRequest
from shared.evaluation import Defense, Evaluation, FrozenModel, Method, StrengthChoice, Unlearning
from shared.plugin_ref import validate_model

M = TypeVar("M", bound=FrozenModel)

MAX_NESTING = 32  # nothing legitimate is nested deeper
ADAPTIVE_PARAM = "adaptive"  # of attacks that can use knowledge of the defense


@dataclass(frozen=True)
class LoadedEvaluation:
    """An evaluation and the sha256 of its bytes. Missing parts are reported as not stated, never
    guessed."""

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
        """None if nothing was attacked."""
        return self.evaluation.attack or (
            Method(method="not stated") if self.evaluation.metrics else None
        )


def parse_json(data: bytes, role: str, field: str) -> Any:
    """The JSON value of an artifact, checked so that it can be written again.

    Raises:
        InvalidRequest: it is not such a value; the message names the role.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{role} is not JSON: {error}", field) from error
    check_json(value, role, field)
    return value


def parse_record(model: type[M], data: bytes, role: str, max_bytes: int) -> M:
    """Parse an artifact that holds one record.

    Raises:
        InvalidRequest: too large, not JSON, or not of that shape; the message names the role.
    """
    field = f"inputs.{role}"
    if len(data) > max_bytes:
        raise InvalidRequest(f"{role} is larger than {max_bytes >> 20} MiB", field)
    return validate_model(model, parse_json(data, role, field), role, field)


def check_json(value: Any, subject: str, field: str) -> None:
    """Refuse what Python reads as JSON but cannot write again: NaN, lone surrogates, endless
    nesting.

    Raises:
        InvalidRequest: it is such a value; the message starts with `subject`.
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
        raise InvalidRequest(f"{subject} is nested deeper than {MAX_NESTING} levels", field)
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except ValueError as error:
        raise InvalidRequest(f"{subject} is not JSON: {error}", field) from error


def is_adaptive(attack: Method) -> bool:
    """Whether the attack is adaptive: the attacker knows the defense."""
    return attack.params.get(ADAPTIVE_PARAM) is True


def without_adaptive(attack: Method) -> Method:
    """The attack without its parameter `adaptive`, so both variants are equal."""
    return Method(
        method=attack.method, params={n: v for n, v in attack.params.items() if n != ADAPTIVE_PARAM}
    )


def without_strength(method: Method) -> Method:
    """The method without a strength chosen for its seed, so it is equal for all seeds."""
    strength: StrengthChoice | None = method.strength if isinstance(method, Defense) else None
    params = {
        name: value
        for name, value in method.params.items()
        if strength is None or name != strength.name
    }
    return Method(method=method.method, params=params)


def method_key(method: Method) -> tuple[str, str]:
    """Two methods with equal keys are the same choice of the audit; strengths chosen by seed are
    ignored."""
    return method.method, json.dumps(without_strength(method).params, sort_keys=True)
