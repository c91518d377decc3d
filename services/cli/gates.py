"""`--fail-on 'psnr.gain>6'`: which rows of a report cross a line that was drawn beforehand."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from services.cli.output import WrongUse
from services.cli.verdicts import method_name

FIELDS = ("mean", "median", "worst", "best", "low", "high", "null", "n", "gain", "gain_low", "gain_high")
OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_FORM = re.compile(r"\s*(?P<metric>\w+)(?:\.(?P<field>\w+))?\s*(?P<sign>[<>]=?)\s*(?P<number>\S+)\s*")
_HOW = "write METRIC[.FIELD] OP NUMBER, such as --fail-on 'psnr.gain>6'"


@dataclass(frozen=True)
class Gate:
    """A line that no row may cross."""

    text: str
    metric: str
    field: str
    sign: str
    number: float

    def value(self, row: Mapping[str, Any]) -> float | None:
        """What the row has there; None if it has nothing."""
        found = ((row.get("metrics") or {}).get(self.metric) or {}).get(self.field)
        return float(found) if isinstance(found, int | float) and math.isfinite(found) else None

    def crossed(self, value: float) -> bool:
        return OPERATORS[self.sign](value, self.number)


@dataclass(frozen=True)
class NotPassed:
    """A row on the wrong side of a gate, or with no value (None) where the gate looks."""

    gate: Gate
    row: Mapping[str, Any]
    value: float | None

    def as_json(self) -> dict[str, Any]:
        """The gate, the row by its choices, and the value."""
        choices = {name: method_name(self.row, name) for name in ("unlearning", "defense", "attack")}
        return {"gate": self.gate.text, **choices, "seed": self.row.get("seed"), "value": self.value}

    def __str__(self) -> str:
        told, gate = self.as_json(), self.gate
        who = ", ".join(f"{name} {told[name]}" for name in ("unlearning", "defense", "attack", "seed"))
        what = "has no value" if self.value is None else f"is {self.value:.4g}, {gate.sign} {gate.number:g}"
        return f"{gate.metric}.{gate.field} {what}: {who}"


def gates(words: Iterable[str]) -> list[Gate]:
    """What was typed after each --fail-on.

    Raises:
        WrongUse: one of them is no gate.
    """
    return [_gate(word) for word in dict.fromkeys(words)]


def _gate(word: str) -> Gate:
    form = _FORM.fullmatch(word)
    if form is None:
        raise WrongUse(f"--fail-on {word!r}: {_HOW}, with an OP of {' '.join(OPERATORS)}")
    try:
        number = float(form["number"])
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise WrongUse(f"--fail-on {word!r}: {form['number']!r} is not a number; {_HOW}")
    field = form["field"] or "mean"
    if field not in FIELDS:
        raise WrongUse(f"--fail-on {word!r}: no field {field!r}{_near(field, FIELDS)}. Known: {', '.join(FIELDS)}")
    return Gate(word, form["metric"], field, form["sign"], number)


def check_metrics(chosen: Iterable[Gate], known: Sequence[str]) -> None:
    """Hold the gates' metrics against those of the catalog: a typo is told before an audit has run, not after.

    Raises:
        WrongUse: no worker has such a metric, nor one that it is derived from (`decoy_rank_1` of `decoy_rank`).
    """
    for gate in chosen:
        if known and not any(gate.metric == name or gate.metric.startswith(f"{name}_") for name in known):
            raise _unknown(gate, known)


def crossings(chosen: Iterable[Gate], rows: Sequence[Mapping[str, Any]]) -> list[NotPassed]:
    """Every row that crosses a gate, gate by gate.

    Raises:
        WrongUse: no row has what a gate names.
    """
    found = []
    for gate in chosen:
        values = [(row, value) for row in rows if (value := gate.value(row)) is not None]
        if rows and not values:
            raise _unknown(gate, sorted({name for row in rows for name in row.get("metrics") or {}}))
        found += [NotPassed(gate, row, value) for row, value in values if gate.crossed(value)]
    return found


def unjudged(chosen: Iterable[Gate], rows: Sequence[Mapping[str, Any]]) -> list[NotPassed]:
    """Every row that a gate is about and cannot judge: it has the metric, and no value in the field."""
    return [
        NotPassed(gate, row, None)
        for gate in chosen
        for row in rows
        if gate.metric in (row.get("metrics") or {}) and gate.value(row) is None
    ]


def _unknown(gate: Gate, known: Sequence[str]) -> WrongUse:
    if gate.metric in known:
        return WrongUse(f"--fail-on {gate.text!r}: no row has {gate.metric}.{gate.field}")
    return WrongUse(
        f"--fail-on {gate.text!r}: there is no metric {gate.metric!r} here{_near(gate.metric, known)}. "
        f"Known: {', '.join(known) or 'none'}"
    )


def _near(word: str, known: Sequence[str]) -> str:
    near = get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
