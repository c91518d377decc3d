"""What is wrong with a form, in words: the checks are those of POST /v1/audits."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from pydantic import ValidationError

from services.gateway.api.audit_planning import AuditBody
from services.gateway.console._audit_form import OPEN_FIELDS, FilledForm
from services.gateway.json_body import parse_json_object
from shared.errors import Conflict, InvalidRequest, NotFound, QuotaReached

T = TypeVar("T")

MAX_MESSAGES = 20
MAX_MESSAGE_CHARS = 400
MAX_PLACE_CHARS = 100
_EMPTY = {
    "dataset": "Choose a data set.",
    "model": "Choose a model.",
    "unlearning": "Choose at least one unlearning method.",
    "attacks": "Choose at least one attack.",
    "defenses": "Choose at least one defense; none releases the model as it is.",
}
_NO_DIGEST = "choose a file, or give the sha256 of an upload or model:NAME"
_JOB_PATH = re.compile(r"^(?:params[\w.]*|[a-z_]+(?:\.[\w]+)+): ")


# what the form calls parameters that messages name by their path
_LABELS = {
    f"{group}.{name}": label
    for group, names in OPEN_FIELDS.items()
    for name, label in names.items()
}
_LABELLED = re.compile(rf"(?<![\w.])(?:{'|'.join(map(re.escape, _LABELS))})(?![\w.]*\w)")


@dataclass(frozen=True)
class FormMessage:
    """One thing that is wrong. field: of the form; "" for all of it."""

    field: str
    text: str

    @property
    def place(self) -> str:
        """The field in words: `attacks, feature_recovery, iterations`."""
        parts = [part for part in self.field.split("/") if not part.isdecimal()]
        return ", ".join(parts)[:MAX_PLACE_CHARS]


def try_form(filled: FilledForm, send: Callable[[AuditBody], T]) -> T | list[FormMessage]:
    """What `send` makes of the form's body, or what is wrong with it.

    Raises:
        TransientError: as `send`.
    """
    problems = [FormMessage(field, text) for field, text in filled.problems[:MAX_MESSAGES]]
    try:
        encoded = json.dumps(filled.body).encode()
        body = AuditBody.model_validate(parse_json_object(encoded))
        return problems or send(body)
    except ValidationError as error:
        covered = {message.field for message in problems}
        more = (message for message in _explain_all(filled, error) if message.field not in covered)
        return [*dict.fromkeys([*problems, *more])][:MAX_MESSAGES]
    except InvalidRequest as error:
        return [*problems, _explain(filled, error.field, "", error.message)]
    except RecursionError:
        return [*problems, FormMessage("", "A value is nested too deeply.")]
    except (Conflict, NotFound, QuotaReached) as error:
        return [FormMessage("", _shorten(str(error)))]


def _explain_all(filled: FilledForm, error: ValidationError) -> list[FormMessage]:
    messages = []
    for one in error.errors(include_url=False, include_context=False)[:MAX_MESSAGES]:
        path, text, value = ".".join(map(str, one["loc"])), one["msg"], one["input"]
        if filled.problems and not path:
            continue  # of the whole: what is missing is told already
        if path.startswith("seeds.") and isinstance(value, str):
            text = f"{value[:40]!r}: {text}"
        messages.append(_explain(filled, path, one["type"], text))
    return messages


def is_small(filled: FilledForm, max_bytes: int) -> bool:
    """Whether the body can be written out: it is JSON that the API would read, and not long."""
    try:
        encoded = json.dumps(filled.body).encode()
        return len(encoded) <= max_bytes and bool(parse_json_object(encoded))
    except (InvalidRequest, RecursionError):
        return False


def _explain(filled: FilledForm, path: str, kind: str, message: str) -> FormMessage:
    field = filled.find_field(path)
    if kind in ("missing", "too_short") and path in _EMPTY:
        return FormMessage(field, _EMPTY[path])
    if kind == "string_pattern_mismatch" and path.startswith(("original", "base", "releases.")):
        is_name = path.endswith(".name")
        return FormMessage(
            field,
            "use letters, digits, and . _ - (at most 40)" if is_name else _NO_DIGEST,
        )
    text = _JOB_PATH.sub("", message.removeprefix("Value error, "))
    text = _LABELLED.sub(lambda match: f"“{_LABELS[match[0]]}”", text)
    return FormMessage(field, _shorten(text))


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE_CHARS else text[: MAX_MESSAGE_CHARS - 1] + "…"
