"""Measurements of further stages: METRICS (untrusted bytes) and the methods they belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, RootModel

from shared.errors import InvalidRequest
from shared.jobs.spec import AuditSpec, PlannedMeasurement, PlannedRow
from shared.plugin_ref import PluginRef, validate_model
from shared.reporting.evaluations import LoadedEvaluation, parse_json, without_strength
from shared.reporting.expected_rows import method_at
from shared.reporting.models import Measurement, Method, WideNumber

MAX_BYTES = 64 << 10
MISSING = "missing: the job failed or was cancelled"
Name = Annotated[str, Field(min_length=1, max_length=60)]
Value = Annotated[WideNumber, Field(strict=True)]


class Numbers(RootModel[Annotated[dict[Name, Value], Field(max_length=64)]]):
    """METRICS of a further stage; docs/adding/stage.md has the bounds."""


@dataclass(frozen=True)
class Metrics:
    """The content of a METRICS artifact: the numbers, or why they cannot be read."""

    numbers: Mapping[str, float] | None
    reason: str | None = None


def read_metrics(data: bytes, role: str) -> Metrics:
    """Parse one METRICS artifact. An invalid one is reported with the reason and affects no other
    row."""
    field = f"inputs.{role}"
    try:
        if len(data) > MAX_BYTES:
            raise InvalidRequest(f"{role} is larger than {MAX_BYTES >> 10} KiB", field)
        return Metrics(validate_model(Numbers, parse_json(data, role, field), role, field).root)
    except InvalidRequest as error:
        return Metrics(None, f"cannot be read: {error.message[:300]}")


def arrange_measurements(
    spec: AuditSpec,
    planned: Sequence[PlannedMeasurement],
    metrics: Mapping[str, Metrics],
    rows: Sequence[PlannedRow],
    evaluations: Mapping[str, LoadedEvaluation],
) -> list[Measurement]:
    """The measurements of further stages, as planned.

    A method has all its parameters if there is an evaluation of it, so the report names it as
    elsewhere.

    Args:
        metrics: by the role of the report's input.
        rows: as planned.
        evaluations: by the role of the report's input.

    Raises:
        InvalidRequest: one names a method that the audit does not have.
    """
    came = [(row, evaluations[row.evaluation]) for row in rows if row.evaluation in evaluations]
    unlearning: dict[int | None, Method] = {row.unlearning: one.unlearning for row, one in came}
    defense: dict[int | None, Method] = {row.defense: one.defense for row, one in came}
    attack: dict[tuple[int | None, int | None], Method | None] = {
        (row.defense, row.attack): one.attack for row, one in came
    }
    measured = []
    for one in planned:
        read = metrics.get(one.metrics, Metrics(None, MISSING))
        measured.append(
            Measurement(
                stage=one.stage,
                seed=one.seed,
                unlearning=_method(
                    spec.unlearning, one.unlearning, one, unlearning.get(one.unlearning)
                ),
                defense=_method(spec.defenses, one.defense, one, defense.get(one.defense)),
                attack=_method(
                    spec.attacks, one.attack, one, attack.get((one.defense, one.attack))
                ),
                numbers=None if read.numbers is None else dict(read.numbers),
                reason=read.reason,
            )
        )
    return measured


def _method(
    choices: Sequence[PluginRef],
    place: int | None,
    planned: PlannedMeasurement,
    known: Method | None,
) -> Method | None:
    if place is None:
        return None
    asked = method_at(choices, place, planned.metrics)
    return without_strength(known) if known is not None and known.method == asked.method else asked
