"""`--fail-on 'psnr.gain>6'`: which rows of a report exceed a threshold."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from services.cli.output.console import UsageError
from services.cli.output.verdict import get_method_name

FIELDS = (
    "mean",
    "median",
    "worst",
    "best",
    "low",
    "high",
    "baseline",
    "n",
    "gain",
    "gain_low",
    "gain_high",
)
OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_PATTERN = re.compile(
    r"\s*(?P<metric>\w+)(?:\.(?P<field>\w+))?\s*(?P<sign>[<>]=?)\s*(?P<number>\S+)\s*"
)
_SYNTAX = "expected METRIC[.FIELD] OP NUMBER, such as --fail-on 'psnr.gain>6'"


@dataclass(frozen=True)
class Gate:
    """A threshold that no row may exceed."""

    text: str
    metric: str
    field: str
    op: str
    number: float

    def get_value(self, row: Mapping[str, Any]) -> float | None:
        """The row's value for this gate; None if it has none."""
        value = ((row.get("metrics") or {}).get(self.metric) or {}).get(self.field)
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None

    def is_crossed(self, value: float) -> bool:
        return OPERATORS[self.op](value, self.number)


@dataclass(frozen=True)
class GateFailure:
    """A row that exceeds a gate's threshold, or has no value for it (None)."""

    gate: Gate
    row: Mapping[str, Any]
    value: float | None

    def to_json(self) -> dict[str, Any]:
        """The gate, the row's choices and its value."""
        choices = {
            name: get_method_name(self.row, name) for name in ("unlearning", "defense", "attack")
        }
        return {
            "gate": self.gate.text,
            **choices,
            "seed": self.row.get("seed"),
            "value": self.value,
        }

    def __str__(self) -> str:
        choices, gate = self.to_json(), self.gate
        row_name = ", ".join(
            f"{name} {choices[name]}" for name in ("unlearning", "defense", "attack", "seed")
        )
        comparison = (
            "has no value"
            if self.value is None
            else f"is {self.value:.4g}, {gate.op} {gate.number:g}"
        )
        return f"{gate.metric}.{gate.field} {comparison}: {row_name}"


def parse_gates(expressions: Iterable[str]) -> list[Gate]:
    """Parse the values of --fail-on.

    Raises:
        UsageError: one of them is malformed.
    """
    return [_parse_gate(word) for word in dict.fromkeys(expressions)]


def _parse_gate(expression: str) -> Gate:
    match = _PATTERN.fullmatch(expression)
    if match is None:
        raise UsageError(f"--fail-on {expression!r}: {_SYNTAX}; OP is one of {' '.join(OPERATORS)}")
    try:
        number = float(match["number"])
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(
            f"--fail-on {expression!r}: {match['number']!r} is not a number; {_SYNTAX}"
        )
    field = match["field"] or "mean"
    if field not in FIELDS:
        raise UsageError(
            f"--fail-on {expression!r}: unknown field {field!r}{_suggest(field, FIELDS)}. "
            f"Known: {', '.join(FIELDS)}"
        )
    return Gate(expression, match["metric"], field, match["sign"], number)


def check_metrics(gates: Iterable[Gate], known: Sequence[str]) -> None:
    """Check the gates' metrics against the catalog, so that a typo fails before the audit runs.

    Raises:
        UsageError: no worker has such a metric, or one that it is derived from (`decoy_rank_1` of
            `decoy_rank`).
    """
    for gate in gates:
        if known and not any(
            gate.metric == name or gate.metric.startswith(f"{name}_") for name in known
        ):
            raise _make_unknown_error(gate, known)


def find_crossings(gates: Iterable[Gate], rows: Sequence[Mapping[str, Any]]) -> list[GateFailure]:
    """Every row that exceeds a gate's threshold, gate by gate.

    Raises:
        UsageError: no row has a gate's metric and field.
    """
    failures = []
    for gate in gates:
        values = [(row, value) for row in rows if (value := gate.get_value(row)) is not None]
        if not values and any(not row.get("unscored") for row in rows):
            raise _make_unknown_error(
                gate, sorted({name for row in rows for name in row.get("metrics") or {}})
            )
        failures += [
            GateFailure(gate, row, value) for row, value in values if gate.is_crossed(value)
        ]
    return failures


def find_unmeasured(gates: Iterable[Gate], rows: Sequence[Mapping[str, Any]]) -> list[GateFailure]:
    """Every row that has a gate's metric but no value in its field, or that has no scores because no
    deleted samples were brought."""
    return [
        GateFailure(gate, row, None)
        for gate in gates
        for row in rows
        if (gate.metric in (row.get("metrics") or {}) or row.get("unscored"))
        and gate.get_value(row) is None
    ]


def _make_unknown_error(gate: Gate, known: Sequence[str]) -> UsageError:
    if gate.metric in known:
        return UsageError(f"--fail-on {gate.text!r}: no row has {gate.metric}.{gate.field}")
    return UsageError(
        f"--fail-on {gate.text!r}: unknown metric {gate.metric!r}{_suggest(gate.metric, known)}. "
        f"Known: {', '.join(known) or 'none'}"
    )


def _suggest(word: str, known: Sequence[str]) -> str:
    near = get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
