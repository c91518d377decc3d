"""Matches the rows an audit asked for with the evaluations that exist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shared.errors import InvalidRequest
from shared.jobs.spec import AuditSpec, PlannedRow
from shared.plugin_ref import PluginRef
from shared.reporting.evaluations import LoadedEvaluation, without_strength
from shared.reporting.models import Method, Missing


def match_rows(
    spec: AuditSpec, rows: Sequence[PlannedRow], evaluations: Mapping[str, LoadedEvaluation]
) -> tuple[dict[str, LoadedEvaluation], list[Missing]]:
    """The evaluations by role in the order of the rows (those no row names come last), and the
    missing rows.

    Args:
        rows: as planned.
        evaluations: by the role of the report's input.

    Raises:
        InvalidRequest: a row names a method that the audit does not have.
    """
    ordered = {
        row.evaluation: evaluations[row.evaluation] for row in rows if row.evaluation in evaluations
    }
    unplanned = sorted(
        (role for role in evaluations if role not in ordered),
        key=lambda role: evaluations[role].sha256,
    )
    evaluated = [row for row in rows if row.evaluation in evaluations]
    # an evaluation of the same release, of any seed, has all parameters
    by_release = {(row.unlearning, row.defense): evaluations[row.evaluation] for row in evaluated}
    released = {(row.seed, row.unlearning, row.defense) for row in evaluated}
    missing = [
        _build_missing(
            spec,
            row,
            by_release.get((row.unlearning, row.defense)),
            (row.seed, row.unlearning, row.defense) in released,
        )
        for row in rows
        if row.evaluation not in evaluations
    ]
    return ordered | {role: evaluations[role] for role in unplanned}, missing


def _build_missing(
    spec: AuditSpec, row: PlannedRow, same_release: LoadedEvaluation | None, released: bool
) -> Missing:
    unlearning = method_at(spec.unlearning, row.unlearning, row.evaluation)
    defense = method_at(spec.defenses, row.defense, row.evaluation)
    return Missing(
        seed=row.seed,
        unlearning=without_strength(same_release.unlearning) if same_release else unlearning,
        defense=without_strength(same_release.defense) if same_release else defense,
        attack=None if row.attack is None else method_at(spec.attacks, row.attack, row.evaluation),
        reason=row.not_planned or _explain_missing(row, released),
    )


def method_at(choices: Sequence[PluginRef], place: int, role: str) -> Method:
    """The method at a place in a list of the audit.

    Raises:
        InvalidRequest: the list is shorter; the message names the role of the planned row.
    """
    if place >= len(choices):
        raise InvalidRequest(
            f"{role} names a method that the audit does not have (methods are numbered from 0)",
            "params.rows",
        )
    return Method(method=choices[place].name, params=choices[place].params)


def _explain_missing(row: PlannedRow, released: bool) -> str:
    if row.attack is None:
        return (
            "the utility of these models was not evaluated because an earlier job failed or was "
            "cancelled"
        )
    if released:
        return (
            "the attack or its evaluation failed or was cancelled; other evaluations of these "
            "models are available"
        )
    return (
        "no results for these models: unlearning, the defense or every later job failed or was "
        "cancelled"
    )
