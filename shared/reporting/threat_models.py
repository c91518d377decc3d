"""Threat models in words: what each attacker was given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from shared.reporting.evaluations import is_adaptive, method_key
from shared.reporting.formatting import Names, join_words
from shared.reporting.models import Row
from shared.roles import Role

# Texts used in place of the role's own description.
WHITE_BOX_WORDS: dict[str, str] = {
    Role.ORIGINAL: "the weights before the deletion",
    Role.UNLEARNED: "the weights after the deletion, as released",
    Role.BASE: "the weights before training on the training set",
    Role.DELETION_SIZES: (
        "how many samples were trained on and forgotten (N and k; also whether all k are of one "
        "class)"
    ),
    Role.LABELS: "the classes of the deleted samples",
    Role.DEFENSE: "the defense of the release, with all its settings",
    Role.PUBLIC: "samples from the same distribution that were not trained on",
    Role.CANDIDATES: "labelled samples: the deleted ones, mixed with retained samples and "
    "non-members",
    Role.POPULATION: "public samples with their classes",
    Role.PROBES: "inputs made beforehand by querying the original model",
}
BLACK_BOX_WORDS: dict[str, str] = {
    **WHITE_BOX_WORDS,
    Role.ORIGINAL: "answers of the model before the deletion",
    Role.UNLEARNED: "answers of the released model",
}
# in a sentence about the attacker, after "knows"
KNOWLEDGE = {
    Role.LABELS: "the classes of the deleted samples",
    Role.DELETION_SIZES: "how many samples were trained on and deleted",
}
CLASS_SOURCES = {  # by the parameter `labels` of attacks that search for images of a class
    "inferred": "Was not given the classes of the deleted samples: it inferred them from the change "
    "of the last layer, and they may be wrong.",
    "optimised": "Was not given the classes of the deleted samples: it optimised them together with "
    "the images, and they may be wrong.",
}
ACCESS = {
    "white_box": (
        "White box: has the weights, as a server that stores both models does. Sends no queries."
    ),
    "black_box": "Black box: may only query the models, like any user of a prediction API.",
}
# the meaning of parameters that are null; for others the preset decides
UNSET_WORDS = {"decimals": "all"}


def describe_never_given(rows: Iterable[Row]) -> str:
    """Names what no attack was given."""
    exception = ", unless it lists DEFENSE," if any(is_adaptive(row.attack) for row in rows) else ""
    return (
        "the deleted samples (except mixed into CANDIDATES, where listed), the training set, the "
        f"name of the unlearning method, or{exception} information about the defense"
    )


@dataclass(frozen=True)
class ThreatModel:
    """One attack's threat model."""

    name: str
    access: str
    classes: str | None  # where the classes come from that were not given
    given: list[tuple[str, str]]  # role and its description
    settings: list[tuple[str, str]]


def describe_threat_models(rows: Iterable[Row], names: Names) -> list[ThreatModel]:
    """One threat model per distinct attack, in the rows' order."""
    attacks: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        attacks.setdefault(method_key(row.attack), []).append(row)
    return [_describe_threat_model(alike, names) for alike in attacks.values()]


def describe_classes(row: Row) -> str | None:
    """Where an attack that was not given the classes of the deleted samples has them from."""
    if Role.LABELS in row.threat_model.get("observes", []):
        return None
    return CLASS_SOURCES.get(str(row.attack.params.get("labels")))


def describe_given(row: Row) -> list[tuple[str, str]]:
    """The roles that a row's attack was given, each in words."""
    is_black_box = row.threat_model.get("access") == "black_box"
    words = BLACK_BOX_WORDS if is_black_box else WHITE_BOX_WORDS
    return [
        (str(role), words.get(str(role)) or _summarise_role(str(role)))
        for role in row.threat_model.get("observes", [])
    ]


def describe_attacker(row: Row) -> str:
    """Who attacked: what they hold, can do and know, in the middle of a sentence."""
    given = set(row.threat_model.get("observes", []))
    access = row.threat_model.get("access")
    models = "before and after the deletion" if Role.ORIGINAL in given else "after the deletion"
    if access == "white_box":
        base = " and the weights that training started from" if Role.BASE in given else ""
        clauses = [f"holds the model {models}{base}"]
    elif access == "black_box":
        clauses = [f"can only query the model {models}"]
    else:
        return "an attacker whose knowledge is not stated"
    if Role.CANDIDATES in given:
        clauses.append("has a list of candidates that contains the deleted samples")
    if given & {Role.PUBLIC, Role.POPULATION}:
        clauses.append("has public samples of the same kind")
    if "released_models" in row.threat_model:
        clauses.append("compares several deletions")
    known = [words for role, words in KNOWLEDGE.items() if role in given]
    if is_adaptive(row.attack):
        known.append("the defense")
        averaged = row.defense.params.get("releases_averaged")
        if isinstance(averaged, int) and averaged > 1:
            clauses.append(f"averages {averaged} releases")
    if known:
        clauses.append(f"knows {join_words(known)}")
    if len(clauses) == 1 or (len(clauses) == 2 and Role.BASE not in given):
        return f"an attacker who {' and '.join(clauses)}"
    return f"an attacker who {', '.join(clauses[:-1])}, and {clauses[-1]}"


def measure_knowledge(row: Row) -> int:
    """How much the attacker held and knew; holding weights is more than any number of queries."""
    access = {"white_box": 100, "black_box": 0}.get(str(row.threat_model.get("access")), -100)
    compares = "released_models" in row.threat_model
    return access + len(row.threat_model.get("observes", [])) + is_adaptive(row.attack) + compares


def _describe_threat_model(attack_rows: list[Row], names: Names) -> ThreatModel:
    attack, threat_model = attack_rows[0].attack, attack_rows[0].threat_model
    access = threat_model.get("access")
    params = [
        (name, UNSET_WORDS.get(name, "set by the preset") if v is None else str(v))
        for name, v in attack.params.items()
    ]
    return ThreatModel(
        name=names(attack),
        access=ACCESS.get(str(access), "Its access to the models is not stated."),
        classes=describe_classes(attack_rows[0]),
        given=describe_given(attack_rows[0]),
        settings=[
            (name.replace("_", " "), value)
            for name, value in (*params, *_list_other_settings(attack_rows))
        ],
    )


def _summarise_role(name: str) -> str:
    """The role's own description."""
    role = Role.__members__.get(name)
    return role.summary if role else "see the glossary"


def _list_other_settings(attack_rows: list[Row]) -> list[tuple[str, str]]:
    """Other entries of the threat model; numbers of queries may differ by row."""
    values_by_name: dict[str, list[Any]] = {}
    for row in attack_rows:
        for name, value in row.threat_model.items():
            if name not in ("attack", "params", "observes", "access"):
                for inner, one in value.items() if isinstance(value, dict) else [("", value)]:
                    values_by_name.setdefault(f"{name}, {inner}" if inner else name, []).append(one)
    return [(name, _format_range(values)) for name, values in values_by_name.items()]


def _format_range(values: list[Any]) -> str:
    """The value, or the range of numbers that differ."""
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        return "not stated" if values[0] is None else str(values[0])
    return " to ".join(dict.fromkeys(f"{end:,}" for end in (min(values), max(values))))
