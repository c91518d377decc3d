"""Evaluations + the audit -> report."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from shared.choices import validated
from shared.jobs.spec import AuditSpec, PlannedMeasurement, PlannedRow
from shared.reporting.evaluations import Found, check_json, identity
from shared.reporting.findings import judge
from shared.reporting.grid import arrange
from shared.reporting.kinds import scores
from shared.reporting.limits import Scope, limits
from shared.reporting.measurements import Metrics, arrange_measurements
from shared.reporting.models import JSONObject, Method, Provenance, Report, Row, SelfTest, Utility
from shared.reporting.notes import annotate
from shared.reporting.sweeps import sweeps
from shared.reporting.verdict import conclude

COMMAND = "palimpsest audit FILE.yaml"

Releases = dict[tuple[int, tuple[str, str], tuple[str, str]], Utility]


def build(
    found: Mapping[str, Found],
    audit: JSONObject,
    rows: Sequence[PlannedRow],
    version: str,
    self_test: SelfTest | None = None,
    measurements: Sequence[PlannedMeasurement] = (),
    metrics: Mapping[str, Metrics] = MappingProxyType({}),
    left_out: Sequence[str] = (),
) -> Report:
    """The report of an audit.

    Args:
        found: the evaluations there are, by role; any may be missing, and two roles may hold the same one.
        audit: the audit as posted.
        rows: those that it asked for, as they were planned; what no row names is told last.
        version: of Palimpsest.
        self_test: how the code did on cases whose answer is known, if that is here.
        measurements: what further stages were planned to measure.
        metrics: what they measured, by role; any may be missing.
        left_out: pictures that came and are not shown, each with the reason.

    Raises:
        InvalidRequest: `audit` is not one, or a row is of a method that it does not have.
    """
    check_json(audit, "audit", "params.audit")
    spec = validated(AuditSpec, audit, "audit", "params.audit")
    by_role, missing = arrange(spec, rows, found)
    ordered = {one.sha256: one for one in by_role.values()}.values()
    adaptive_too = {found[row.evaluation].sha256 for row in rows if row.adaptive_too and row.evaluation in found}
    utilities = _utilities(ordered)
    made = annotate(
        [_row(one, one.attack, utilities, one.sha256 in adaptive_too) for one in ordered if one.attack is not None]
    )
    conditions = {json.dumps(c, sort_keys=True): c for one in ordered if (c := one.evaluation.provenance)}
    return Report(
        name=spec.name,
        verdict=conclude(made, missing, self_test),
        rows=made,
        missing=missing,
        sweeps=sweeps(made, missing, spec),
        measurements=arrange_measurements(spec, measurements, metrics, rows, found),
        provenance=Provenance(
            conditions=list(conditions.values()),
            palimpsest=version,
            audit=audit,
            command=COMMAND,
            evaluations=[one.sha256 for one in ordered],
            self_test=self_test,
        ),
        limits=limits(Scope(made, missing, spec, self_test, left_out)),
    )


def _release(one: Found) -> tuple[int, tuple[str, str], tuple[str, str]]:
    return one.evaluation.seed, identity(one.unlearning), identity(one.defense)


def _utilities(found: Iterable[Found]) -> Releases:
    """Utility by released model; an attack's evaluation may bring its own."""
    return {_release(one): one.evaluation.utility for one in found if one.evaluation.utility}


def _row(one: Found, attack: Method, utilities: Releases, adaptive_too: bool) -> Row:
    evaluation, metrics = one.evaluation, scores(one.evaluation)
    return Row(
        seed=evaluation.seed,
        unlearning=one.unlearning,
        defense=one.defense,
        attack=attack,
        adaptive_too=adaptive_too,
        threat_model=evaluation.threat_model or {},
        deletions=evaluation.deletions,
        size=evaluation.size,
        metrics=metrics,
        identification=evaluation.ranks,
        answers=evaluation.answers,
        utility=evaluation.utility or utilities.get(_release(one)),
        finding=judge(evaluation, metrics),
        note=None,
        evaluation=one.sha256,
    )
