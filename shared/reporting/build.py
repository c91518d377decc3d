"""Builds a report from an audit and its evaluations."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from shared.comparison import Comparison
from shared.forgetting import Forgetting, ForgettingRow
from shared.jobs.spec import AuditSpec, PlannedMeasurement, PlannedRow
from shared.plugin_ref import validate_model
from shared.reporting.caveats import CaveatInputs, collect_caveats
from shared.reporting.evaluations import (
    LoadedEvaluation,
    check_json,
    method_key,
    without_strength,
)
from shared.reporting.expected_rows import match_rows
from shared.reporting.findings import decide_row
from shared.reporting.forgetting import ReleaseKey, key_by_release
from shared.reporting.kinds import collect_scores
from shared.reporting.kinds.images import add_own_p
from shared.reporting.measurements import Metrics, arrange_measurements
from shared.reporting.models import (
    JSONObject,
    Method,
    Missing,
    Provenance,
    Report,
    ReportSubmission,
    Row,
    SelfTest,
    Utility,
)
from shared.reporting.moved_weights import summarise_weights
from shared.reporting.not_brought import list_not_brought
from shared.reporting.notes import annotate
from shared.reporting.pooling import pool_seeds
from shared.reporting.standards import describe_attackers, list_privacy_tests
from shared.reporting.sweeps import build_sweeps
from shared.reporting.verdict import conclude
from shared.roles import Role

COMMAND = "palimpsest audit FILE.yaml"
# of the inputs of measurements, those that are models or data
IDENTIFIED_ROLES = (
    Role.ORIGINAL,
    Role.UNLEARNED,
    Role.BASE,
    Role.RETRAINED,
    Role.TRAINING_SET,
    Role.FORGET_SETS,
    Role.MEMBERSHIP,
)
NOT_COMPARED = (
    "whether these models have forgotten was not measured because retraining or the comparison "
    "failed or was cancelled"
)

Releases = dict[ReleaseKey, Utility]
Copies = dict[ReleaseKey, list[int]]


def build_report(
    evaluations: Mapping[str, LoadedEvaluation],
    audit: JSONObject,
    rows: Sequence[PlannedRow],
    version: str,
    self_test: SelfTest | None = None,
    measurements: Sequence[PlannedMeasurement] = (),
    metrics: Mapping[str, Metrics] = MappingProxyType({}),
    left_out: Sequence[str] = (),
    submission: ReportSubmission | None = None,
    data_files: Mapping[str, str] = MappingProxyType({}),
    forgetting: Mapping[str, Forgetting] = MappingProxyType({}),
    comparisons: Sequence[Comparison] = (),
) -> Report:
    """The report of an audit.

    Args:
        evaluations: by role; any may be missing, and two roles may hold the same one.
        audit: the audit as posted.
        rows: those that the audit asked for, as planned; evaluations that no row names come last.
        version: of Palimpsest.
        self_test: the self-test result of the code, if there is one.
        measurements: planned measurements of further stages.
        metrics: their results, by role; any may be missing.
        left_out: pictures that are not shown, each with the reason.
        submission: which job makes the report.
        data_files: by path, sha256 of the files that the audit read.
        comparisons: of models that a user has brought; any may be missing.
        forgetting: by sha256, releases compared with retrained models; any may be missing.

    Raises:
        InvalidRequest: `audit` is not valid, or a row names a method that it does not have.
    """
    check_json(audit, "audit", "params.audit")
    spec = validate_model(AuditSpec, audit, "audit", "params.audit")
    by_role, missing = match_rows(spec, rows, evaluations)
    ordered = {one.sha256: one for one in by_role.values()}.values()
    also_adaptive = {
        evaluations[row.evaluation].sha256
        for row in rows
        if row.adaptive_too and row.evaluation in evaluations
    }
    utilities, measured = _collect_utilities(ordered), key_by_release(forgetting.values())
    copies = _collect_copies(ordered)
    if audit.get("check_forgetting") is True:  # reports of older audits did not ask for it
        missing = [*missing, *_list_unmeasured(ordered, measured)]
    report_rows = annotate(
        pool_seeds(
            [
                _build_row(
                    one, one.attack, utilities, copies, one.sha256 in also_adaptive
                ).model_copy(update={"forgetting": measured.get(_key_of_release(one))})
                for one in ordered
                if one.attack is not None
            ]
        )
    )
    not_brought = list_not_brought(comparisons)
    conditions = {
        json.dumps(c, sort_keys=True): c for one in ordered if (c := one.evaluation.provenance)
    }
    return Report(
        name=spec.name,
        verdict=conclude(report_rows, missing, self_test, not_brought),
        rows=report_rows,
        missing=missing,
        # each seed compares the same files
        moved_weights=list(
            {one.release: summarise_weights(one) for one in reversed(comparisons)}.values()
        )[::-1],
        not_brought=not_brought,
        sweeps=build_sweeps(report_rows, missing, spec),
        measurements=arrange_measurements(spec, measurements, metrics, rows, evaluations),
        privacy_tests=list_privacy_tests(report_rows),
        attackers=describe_attackers(report_rows),
        provenance=Provenance(
            submission=submission,
            inputs=_collect_inputs(
                [
                    *(one.evaluation.inputs for one in ordered),
                    *(one.inputs for one in forgetting.values()),
                ]
            ),
            data_files=dict(data_files),
            conditions=list(conditions.values()),
            palimpsest=version,
            audit=audit,
            command=COMMAND,
            evaluations=[one.sha256 for one in ordered],
            forgetting=list(forgetting),
            self_test=self_test,
        ),
        caveats=collect_caveats(
            CaveatInputs(report_rows, missing, spec, self_test, left_out, comparisons)
        ),
    )


def _key_of_release(one: LoadedEvaluation) -> ReleaseKey:
    return one.evaluation.seed, method_key(one.unlearning), method_key(one.defense)


def _collect_utilities(evaluations: Iterable[LoadedEvaluation]) -> Releases:
    """Utility by released model; an attack's evaluation may include it."""
    return {
        _key_of_release(one): one.evaluation.utility
        for one in evaluations
        if one.evaluation.utility
    }


def _collect_inputs(measured: Iterable[Mapping[str, str]]) -> dict[str, list[str]]:
    """Digests of models and data by role, each once, in the order of the measurements."""
    digests: dict[str, dict[str, None]] = {role: {} for role in IDENTIFIED_ROLES}
    for inputs in measured:
        for role, digest in inputs.items():
            if role in digests:
                digests[role][digest] = None
    return {str(role): list(distinct) for role, distinct in digests.items() if distinct}


def _list_unmeasured(
    evaluations: Iterable[LoadedEvaluation], measured: Mapping[ReleaseKey, ForgettingRow]
) -> list[Missing]:
    """Releases that were evaluated but not compared with retraining."""
    releases = {_key_of_release(one): one for one in evaluations}
    return [
        Missing(
            seed=key[0],
            unlearning=without_strength(one.unlearning),
            defense=without_strength(one.defense),
            attack=None,
            reason=NOT_COMPARED,
        )
        for key, one in releases.items()
        if key not in measured
    ]


def _collect_copies(evaluations: Iterable[LoadedEvaluation]) -> Copies:
    """Deletions of samples that the training set holds a copy of, by released model."""
    return {
        _key_of_release(one): one.evaluation.retained_copies
        for one in evaluations
        if one.evaluation.retained_copies
    }


def _build_row(
    one: LoadedEvaluation,
    attack: Method,
    utilities: Releases,
    copies: Copies,
    adaptive_too: bool,
) -> Row:
    evaluation, metrics = one.evaluation, collect_scores(one.evaluation)
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
        identification=add_own_p(evaluation.reported_identification),
        answers=evaluation.answers,
        unscored=evaluation.unscored,
        utility=evaluation.utility or utilities.get(_key_of_release(one)),
        retained_copies=copies.get(_key_of_release(one), []),
        finding=decide_row(evaluation, metrics),
        note=None,
        evaluation=one.sha256,
        inputs=evaluation.inputs,
    )
