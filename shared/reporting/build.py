"""Evaluations + the audit -> report."""

from __future__ import annotations

import json
from collections.abc import Sequence

from shared.choices import validated
from shared.jobs.spec import AuditSpec
from shared.reporting.evaluations import Found, check_json, identity, recovered, scores
from shared.reporting.findings import judge
from shared.reporting.grid import Complete, arrange, as_given
from shared.reporting.limits import Scope, limits
from shared.reporting.models import JSONObject, Method, Provenance, Report, Row, SelfTest, Utility
from shared.reporting.notes import annotate
from shared.reporting.sweeps import sweeps
from shared.reporting.verdict import conclude

COMMAND = "palimpsest audit FILE.yaml"

Releases = dict[tuple[int, tuple[str, str], tuple[str, str]], Utility]


def build(
    found: Sequence[Found],
    audit: JSONObject,
    version: str,
    complete: Complete = as_given,
    self_test: SelfTest | None = None,
) -> Report:
    """The report of an audit.

    Args:
        found: the evaluations there are; any may be missing, and two roles may hold the same one.
        audit: the audit as posted.
        version: of Palimpsest.
        complete: all parameters of a choice, to tell which choices are one.
        self_test: how the code did on cases whose answer is known, if that is here.

    Raises:
        InvalidRequest: `audit` is not one.
    """
    check_json(audit, "audit", "params.audit")
    spec = validated(AuditSpec, audit, "audit", "params.audit")
    ordered, missing = arrange(spec, found, complete)
    utilities = _utilities(ordered)
    rows = annotate([_row(one, one.attack, utilities) for one in ordered if one.attack is not None])
    conditions = {json.dumps(c, sort_keys=True): c for one in ordered if (c := one.evaluation.provenance)}
    return Report(
        name=spec.name,
        verdict=conclude(rows, missing, self_test),
        rows=rows,
        missing=missing,
        sweeps=sweeps(rows, spec),
        provenance=Provenance(
            conditions=list(conditions.values()),
            palimpsest=version,
            audit=audit,
            command=COMMAND,
            evaluations=[one.sha256 for one in ordered],
            self_test=self_test,
        ),
        limits=limits(Scope(rows, missing, spec, self_test)),
    )


def _release(one: Found) -> tuple[int, tuple[str, str], tuple[str, str]]:
    return one.evaluation.seed, identity(one.unlearning), identity(one.defense)


def _utilities(found: Sequence[Found]) -> Releases:
    """Utility by released model; an attack's evaluation may bring its own."""
    return {_release(one): one.evaluation.utility for one in found if one.evaluation.utility}


def _row(one: Found, attack: Method, utilities: Releases) -> Row:
    evaluation, metrics = one.evaluation, scores(one.evaluation)
    return Row(
        seed=evaluation.seed,
        unlearning=one.unlearning,
        defense=one.defense,
        attack=attack,
        threat_model=evaluation.threat_model or {},
        deletions=evaluation.deletions,
        size=evaluation.size,
        metrics=metrics,
        identification=evaluation.identification,
        answers=evaluation.answers,
        utility=evaluation.utility or utilities.get(_release(one)),
        finding=judge(metrics, evaluation.identification, recovered(evaluation)),
        note=None,
        evaluation=one.sha256,
    )
