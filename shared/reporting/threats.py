"""Threat models in words: what an attacker was given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from shared.reporting.evaluations import identity, knows
from shared.reporting.models import Row
from shared.reporting.numbers import Names
from shared.roles import Role

# What a reader is told other than the role's own sentence.
WHITE: dict[str, str] = {
    Role.ORIGINAL: "the weights before the deletion",
    Role.UNLEARNED: "the weights after it, as they were released",
    Role.BASE: "the weights from before the training set was learned",
    Role.COUNTS: "how many samples were trained on and how many were forgotten (N and k); whether of one class",
    Role.LABELS: "the classes of the deleted samples",
    Role.DEFENSE: "how the release was defended, with all settings",
    Role.PUBLIC: "training sets that an outsider could have drawn, none of whose samples was trained on",
    Role.CANDIDATES: "samples with their classes, the deleted ones mixed with others that stayed or were never trained "
    "on",
    Role.POPULATION: "public samples with their classes",
    Role.PROBES: "inputs made beforehand by querying the original model",
}
BLACK: dict[str, str] = {
    **WHITE,
    Role.ORIGINAL: "answers of the model before the deletion",
    Role.UNLEARNED: "answers of the released model",
}
ACCESS = {
    "white_box": "White box: holds the weights, like a server that stores both models. It sends no queries.",
    "black_box": "Black box: may only query the models, like any user of a prediction API.",
}
LEFT_OPEN = {"decimals": "all"}  # what a parameter means that is null; of others the preset decides


def never(rows: Iterable[Row]) -> str:
    """What no attack was given."""
    but = ", unless it lists DEFENSE," if any(knows(row.attack) for row in rows) else ""
    return (
        "the deleted samples (but mixed among CANDIDATES, where that is listed), the training set, the name of the "
        f"unlearning method, or{but} whether and how the release was defended"
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
    attack, told = alike[0].attack, alike[0].threat_model
    access, roles = told.get("access"), told.get("observes", [])
    words = BLACK if access == "black_box" else WHITE
    params = [(name, LEFT_OPEN.get(name, "the preset’s") if v is None else str(v)) for name, v in attack.params.items()]
    return Threat(
        name=names(attack),
        access=ACCESS.get(str(access), "Its access to the models is not stated."),
        given=[(str(role), words.get(str(role)) or _summary(str(role))) for role in roles],
        settings=[(name.replace("_", " "), value) for name, value in (*params, *_extra(alike))],
    )


def _summary(name: str) -> str:
    """What a role is that needs no words of its own here."""
    role = Role.__members__.get(name)
    return role.summary if role else "see the glossary"


def _extra(alike: list[Row]) -> list[tuple[str, str]]:
    """Whatever else the threat model states; a number of queries may differ by row."""
    found: dict[str, list[Any]] = {}
    for row in alike:
        for name, value in row.threat_model.items():
            if name not in ("attack", "params", "observes", "access"):
                for inner, one in value.items() if isinstance(value, dict) else [("", value)]:
                    found.setdefault(f"{name}, {inner}" if inner else name, []).append(one)
    return [(name, _range(values)) for name, values in found.items()]


def _range(values: list[Any]) -> str:
    """A value, or the least and the greatest of numbers that differ."""
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        return "not stated" if values[0] is None else str(values[0])
    return " to ".join(dict.fromkeys(f"{end:,}" for end in (min(values), max(values))))
