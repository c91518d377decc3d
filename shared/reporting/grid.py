"""The rows that an audit asked for, held against the evaluations that came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shared.choices import Choice
from shared.errors import InvalidRequest
from shared.jobs.spec import AuditSpec, PlannedRow
from shared.reporting.evaluations import Found, without_strength
from shared.reporting.models import Method, Missing


def arrange(
    spec: AuditSpec, rows: Sequence[PlannedRow], found: Mapping[str, Found]
) -> tuple[dict[str, Found], list[Missing]]:
    """The evaluations by role in the order of the rows, those that no row names last; and what is missing.

    Args:
        rows: as the plan has them.
        found: by the role of the report's input.

    Raises:
        InvalidRequest: a row names a method that the audit does not have.
    """
    ordered = {row.evaluation: found[row.evaluation] for row in rows if row.evaluation in found}
    others = sorted((role for role in found if role not in ordered), key=lambda role: found[role].sha256)
    came = [row for row in rows if row.evaluation in found]
    # what a release is made of is told best by one that came, of whatever seed: it has all parameters
    known = {(row.unlearning, row.defense): found[row.evaluation] for row in came}
    released = {(row.seed, row.unlearning, row.defense) for row in came}
    missing = [
        _missing(
            spec, row, known.get((row.unlearning, row.defense)), (row.seed, row.unlearning, row.defense) in released
        )
        for row in rows
        if row.evaluation not in found
    ]
    return ordered | {role: found[role] for role in others}, missing


def _missing(spec: AuditSpec, row: PlannedRow, like: Found | None, released: bool) -> Missing:
    unlearning = method_at(spec.unlearning, row.unlearning, row.evaluation)
    defense = method_at(spec.defenses, row.defense, row.evaluation)
    return Missing(
        seed=row.seed,
        unlearning=without_strength(like.unlearning) if like else unlearning,
        defense=without_strength(like.defense) if like else defense,
        attack=None if row.attack is None else method_at(spec.attacks, row.attack, row.evaluation),
        why=_why(row, released),
    )


def method_at(choices: Sequence[Choice], place: int, role: str) -> Method:
    """The method at a place in a list of the audit.

    Raises:
        InvalidRequest: the list is shorter; the message names the role that is planned to be of it.
    """
    if place >= len(choices):
        raise InvalidRequest(
            f"{role} is of a method that the audit does not have: number its methods from 0", "params.rows"
        )
    return Method(method=choices[place].name, params=choices[place].params)


def _why(row: PlannedRow, released: bool) -> str:
    if row.attack is None:
        return "the utility of these released models was not evaluated: a job before it failed or was cancelled"
    if released:
        return "the attack or its evaluation failed or was cancelled; other evaluations of these models are here"
    return "nothing came of these released models: unlearning, defense or all that follows failed or was cancelled"
