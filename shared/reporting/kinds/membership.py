"""Membership in a report: candidates distinguished from non-members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shared.evaluation import Evaluation
from shared.reporting.binomial import auc_band
from shared.reporting.evaluations import method_key
from shared.reporting.evidence import TAIL, build_not_seen, compute_chance
from shared.reporting.formatting import (
    format_number,
    format_probability,
    format_score,
    list_attacks,
    pluralise,
)
from shared.reporting.models import Finding, Row, Score
from shared.reporting.reported_kind import (
    Caveat,
    PrivacyTestScope,
    ReportedKind,
    Section,
    View,
)
from shared.reporting.row_charts import Chart, ShareChart, draw_shares

FORGOTTEN_AUC, FORGOTTEN_TPR, RETAINED_AUC = "auc_forgotten", "tpr_forgotten", "auc_retained"
TELLING_STAYED = "tpr_retained"
CHART = ShareChart(
    FORGOTTEN_AUC,
    "AUC, forgotten samples against non-members",
    "Membership against chance.",
    baseline=0.5,
    band=lambda score: auc_band(score.n, score.non_members or score.n),
)
METRIC_NAMES = {
    FORGOTTEN_AUC: "AUC, forgotten",
    RETAINED_AUC: "AUC, retained",
    FORGOTTEN_TPR: "TPR at 5 % FPR, forgotten",
    TELLING_STAYED: "TPR at 5 % FPR, retained",
}
RULE = (
    "A membership attack leaks if it distinguishes forgotten samples from non-members of the same "
    f"class: the 95 % interval of the AUC lies above 0.5, and its p-value is at most {TAIL}. If "
    "the interval lies below 0.5, the row is inconclusive: inverting the score would distinguish "
    "them. A row is also inconclusive if only the true positive rate is above chance: a few "
    "samples are then detected, but most are not. Results for retained samples are reported too, "
    "but do not affect the verdict: these samples were not deleted."
)


def _explain_membership(rows: Sequence[Row]) -> str | None:
    if not any(FORGOTTEN_AUC in row.metrics for row in rows):
        return None
    return (
        "A membership attacker already has the candidates and only asks which of them were "
        "forgotten: such an attack reveals which samples were deleted and reconstructs nothing. "
        "Samples are compared within their class, so a shift of the whole class has no effect; "
        "non-members are drawn from the same pool as training sets."
    )


class ReportedMembership(ReportedKind):
    metric = FORGOTTEN_AUC
    severity = 100
    subject = "Deleted samples can be picked out among candidates"
    rule = RULE
    shares = (FORGOTTEN_AUC, RETAINED_AUC, FORGOTTEN_TPR, TELLING_STAYED)
    metric_names = METRIC_NAMES
    privacy_tests = (
        PrivacyTestScope(
            "membership inference",
            "Attacks tell deleted samples from samples that were never trained on.",
        ),
    )
    attacker_goal = "Privacy compromise: membership inference (of deleted samples)."
    caveats = (Caveat(40, _explain_membership),)

    def decide_row(self, evaluation: Evaluation, metrics: Mapping[str, Score]) -> Finding:  # noqa: ARG002 - as all kinds
        auc, tpr = metrics[FORGOTTEN_AUC], metrics.get(FORGOTTEN_TPR)
        finding = decide_auc(auc)
        if (
            finding.outcome != "not_seen"
            or tpr is None
            or tpr.low is None
            or tpr.baseline is None
            or tpr.low <= tpr.baseline
        ):
            return finding
        if tpr.interval == "wilson" and compute_chance(tpr, tpr.baseline) > TAIL:
            return finding
        reason = (
            f"Only the true positive rate is significantly above chance: {format_score(tpr)}, "
            f"baseline {format_number(tpr.baseline)}. {finding.reason}"
        )
        return Finding(outcome="inconclusive", reason=reason)

    def describe(self, row: Row) -> str:
        score = row.metrics[FORGOTTEN_AUC]
        return f"AUC {format_score(score)}, baseline {format_number(score.baseline)}"

    def summarise_rows(self, rows: Sequence[Row]) -> str | None:
        """Whether retained samples are distinguishable too."""
        if not (scores := [score for row in rows if (score := row.metrics.get(RETAINED_AUC))]):
            return None
        inverted = [
            score
            for score in scores
            if score.high is not None and score.baseline is not None and score.high < score.baseline
        ]
        leaking = [score for score in scores if decide_auc(score).outcome == "leak"] + inverted
        if leaking:
            most = max(leaking, key=lambda score: abs(score.mean - (score.baseline or 0.0)))
            return (
                f"Retained training samples are also distinguishable in {len(leaking)} of "
                f"{pluralise(len(scores), 'row')}: AUC {format_score(most)} against "
                f"non-members{', inverted' if most in inverted else ''}."
            )
        ends = dict.fromkeys(
            format_number(end) for end in (min(s.mean for s in scores), max(s.mean for s in scores))
        )
        return (
            "Retained training samples were not distinguishable from non-members (AUC "
            f"{' to '.join(ends)})."
        )

    def build_section(self, view: View) -> Section | None:
        all_rows = [(mark, row) for mark, row in view.rows if FORGOTTEN_AUC in row.metrics]
        charts = []
        for attack in list_attacks(row for _, row in all_rows):
            rows = [
                (mark, row)
                for mark, row in all_rows
                if method_key(row.attack) == method_key(attack)
            ]
            charts.append(
                Chart(view.names(attack), FORGOTTEN_AUC, draw_shares(rows, CHART, view.names), rows)
            )
        return Section("members", "Membership", "membership.html", charts) if charts else None


def decide_auc(auc: Score) -> Finding:
    """Whether samples are distinguished from non-members, by their AUC."""
    scores_text = f"AUC {format_score(auc)}, baseline {format_number(auc.baseline)}" + (
        "" if auc.p is None else f", p {format_probability(auc.p)}"
    )
    if auc.low is None or auc.high is None or auc.baseline is None:
        return Finding(
            outcome="inconclusive", reason=f"No confidence interval or no baseline: {scores_text}."
        )
    if auc.high < auc.baseline:
        return Finding(
            outcome="inconclusive",
            reason=(
                "Significant in the opposite direction (inverting the score would reveal "
                f"membership): {scores_text}."
            ),
        )
    if auc.low > auc.baseline:
        if auc.p is None or auc.p > TAIL:
            return Finding(
                outcome="inconclusive",
                reason=f"Above its baseline, but not significantly: {scores_text}.",
            )
        return Finding(
            outcome="leak", reason=f"The AUC is significantly above its baseline: {scores_text}."
        )
    return build_not_seen(auc.n, f"The AUC is not significantly above its baseline: {scores_text}.")


KIND = ReportedMembership()
