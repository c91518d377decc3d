"""Threat models in words: what an attacker was given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from shared.reporting.evaluations import identity
from shared.reporting.models import Row
from shared.reporting.numbers import Names

WHITE = {
    "ORIGINAL": "the weights before the deletion",
    "UNLEARNED": "the weights after it, as they were released",
    "BASE": "the weights from before the training set was learned",
    "COUNTS": "how many samples were trained on and how many were forgotten (N and k)",
    "LABELS": "the classes of the deleted samples",
    "PROBES": "inputs made beforehand by querying the original model",
}
BLACK = {
    **WHITE,
    "ORIGINAL": "answers of the model before the deletion",
    "UNLEARNED": "answers of the released model",
}
ACCESS = {
    "white_box": "White box: holds the weights, like a server that stores both models. It sends no queries.",
    "black_box": "Black box: may only query the models, like any user of a prediction API.",
}
NEVER = (
    "the deleted samples, the training set, the name of the unlearning method, or whether and how the release "
    "was defended"
)


@dataclass(frozen=True)
class Threat:
    """One attack's threat model."""

    name: str
    access: str
    given: list[tuple[str, str]]  # role, what it is
    settings: list[tuple[str, str]]


def threats(rows: Iterable[Row], names: Names) -> list[Threat]:
    """One a distinct attack, in the rows' order."""
    attacks: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        attacks.setdefault(identity(row.attack), []).append(row)
    return [_threat(alike, names) for alike in attacks.values()]


def _threat(alike: list[Row], names: Names) -> Threat:
    told = alike[0].threat_model
    access, roles = told.get("access"), told.get("observes", [])
    words = BLACK if access == "black_box" else WHITE
    settings = [*alike[0].attack.params.items(), *_extra(alike)]
    return Threat(
        name=names(alike[0].attack),
        access=ACCESS.get(str(access), "Its access to the models is not stated."),
        given=[(str(role), words.get(str(role), "see the glossary")) for role in roles],
        settings=[
            (name.replace("_", " "), "the preset’s" if value is None else str(value)) for name, value in settings
        ],
    )


def _extra(alike: list[Row]) -> list[tuple[str, Any]]:
    """Whatever else the threat model states; a number of queries may differ by row."""
    shown = []
    for name in alike[0].threat_model:
        if name in ("attack", "params", "observes", "access"):
            continue
        values = [row.threat_model.get(name) for row in alike]
        numbers = [value for value in values if isinstance(value, (int, float))]
        differ = len(numbers) == len(values) and len(set(numbers)) > 1
        shown.append((name, f"{min(numbers):,} to {max(numbers):,}" if differ else values[0]))
    return shown
