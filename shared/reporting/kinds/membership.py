"""Membership in a report: candidates distinguished from non-members."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from statistics import NormalDist

from shared.reporting.binomial import auc_band
from shared.reporting.evaluations import method_key
from shared.reporting.evidence import SUSPICIOUS, TAIL, build_not_seen, compute_chance
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
    Measured,
    PrivacyTestScope,
    ReportedKind,
    Section,
    View,
)
from shared.reporting.row_charts import Chart, ShareChart, draw_shares

FORGOTTEN_AUC, FORGOTTEN_TPR, RETAINED_AUC = "auc_forgotten", "tpr_forgotten", "auc_retained"
TELLING_STAYED = "tpr_retained"
NORMAL = NormalDist()
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
    "class in either direction: the 95 % interval of the AUC does not contain 0.5, and the "
    f"two-sided p-value is at most {TAIL}. An AUC near 0 is a leak too: samples that were forgotten "
    "too thoroughly stand out. A row is inconclusive if only the true positive rate is above "
    "chance: a few samples are then detected, but most are not. Results for retained samples are "
    "reported too, but do not affect the verdict: these samples were not deleted."
)


def _explain_membership(rows: Sequence[Row]) -> str | None:
    if not any(FORGOTTEN_AUC in row.metrics for row in rows):
        return None
    return (
        "A membership attacker already has the candidates and only asks which of them were "
        "forgotten: such an attack reveals which samples were deleted and reconstructs nothing. "
        "Samples are compared within their class, so a shift of the whole class has no effect; "
        "non-members of models that were trained here are drawn from the same pool as training sets."
    )


class ReportedMembership(ReportedKind):
    metric = FORGOTTEN_AUC
    severity = 100
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

    def explain_untested(self, row: Measured) -> str:
        auc = format_score(row.metrics[FORGOTTEN_AUC])
        return f"No confidence interval, p-value or baseline: AUC {auc}."

    def compute_p(self, rows: Sequence[Row | Measured]) -> float | None:
        return compute_two_sided_p([row.metrics[FORGOTTEN_AUC] for row in rows])

    def decide_pooled(
        self, rows: Sequence[Row | Measured], p: float, p_corrected: float
    ) -> Finding:
        finding = decide_auc([row.metrics[FORGOTTEN_AUC] for row in rows], p, p_corrected)
        if finding.outcome != "not_seen":
            return finding
        for row in rows:
            tpr = row.metrics.get(FORGOTTEN_TPR)
            if tpr is None or tpr.low is None or tpr.baseline is None or tpr.low <= tpr.baseline:
                continue
            # that of any seed is looked at
            if tpr.interval == "wilson" and len(rows) * compute_chance(tpr, tpr.baseline) > TAIL:
                continue
            reason = (
                f"Only the true positive rate is significantly above chance: {format_score(tpr)}, "
                f"baseline {format_number(tpr.baseline)}. {finding.reason}"
            )
            return Finding(outcome="inconclusive", reason=reason)
        return finding

    def measure_strength(self, row: Row) -> float:
        score = row.metrics[FORGOTTEN_AUC]
        ends = [score.gain_low, None if score.gain_high is None else -score.gain_high]
        return max((end for end in ends if end is not None), default=float("-inf"))

    def describe(self, row: Row) -> str:
        score = row.metrics[FORGOTTEN_AUC]
        inverted = ", forgotten too thoroughly" if _lies_below(score) else ""
        return f"AUC {format_score(score)}, baseline {format_number(score.baseline)}{inverted}"

    def describe_success(self, rows: Sequence[Row]) -> str:
        aucs = [row.metrics[FORGOTTEN_AUC] for row in rows]
        share = sum(auc.mean * auc.n for auc in aucs) / sum(auc.n for auc in aucs)
        excess = "" if share > 0.5 else ", as they were forgotten too thoroughly"
        return (
            "tells deleted samples from samples that were never trained on: in "
            f"{100 * max(share, 1 - share):.0f} of 100 pairs, where by chance it would be 50{excess}"
        )

    def summarise_rows(self, rows: Sequence[Row]) -> str | None:
        """Whether retained samples are distinguishable too."""
        if not (scores := [score for row in rows if (score := row.metrics.get(RETAINED_AUC))]):
            return None
        inverted = [score for score in scores if _lies_below(score)]
        leaking = [
            score
            for score in scores
            if (p := compute_two_sided_p([score])) is not None
            and decide_auc([score], p, p).outcome == "leak"
        ]
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


def compute_two_sided_p(aucs: Sequence[Score]) -> float | None:
    """P-value that forgotten samples score above or below non-members, over independent seeds
    (Stouffer 1949); None if a p-value is missing."""
    sides = []
    for p_values in ([auc.p for auc in aucs], [auc.p_below for auc in aucs]):
        known = [p for p in p_values if p is not None]
        if len(known) < len(p_values) or any(
            end is None for auc in aucs for end in (auc.low, auc.high, auc.baseline)
        ):
            return None
        z = sum(NORMAL.inv_cdf(1 - min(max(p, 1e-12), 1 - 1e-12)) for p in known)
        sides.append(1 - NORMAL.cdf(z / sqrt(len(known))) if len(known) > 1 else known[0])
    return min(1.0, 2 * min(sides))


def decide_auc(aucs: Sequence[Score], p: float, p_corrected: float) -> Finding:
    """Whether samples are distinguished from non-members, by the AUCs of one attack's seeds."""
    n, mean = sum(auc.n for auc in aucs), sum(auc.mean * auc.n for auc in aucs)
    baseline = aucs[0].baseline or 0.5
    is_below = mean / n < baseline
    scores_text = (
        f"AUC {format_score(aucs[0])}"
        if len(aucs) == 1
        else f"AUC {format_number(mean / n)}, n = {n} over {len(aucs)} seeds"
    ) + f", baseline {format_number(baseline)}, p {format_probability(p_corrected)}"
    is_clear = any(_lies_below(auc) if is_below else _lies_above(auc) for auc in aucs)
    if is_clear and p_corrected <= TAIL:
        reason = (
            "The AUC is significantly below its baseline: forgotten samples stand out, as they were "
            f"forgotten too thoroughly: {scores_text}."
            if is_below
            else f"The AUC is significantly above its baseline: {scores_text}."
        )
        return Finding(outcome="leak", reason=reason)
    if is_clear or p <= SUSPICIOUS:
        side = "Below" if is_below else "Above"
        return Finding(
            outcome="inconclusive",
            reason=f"{side} its baseline, but not significantly: {scores_text}.",
        )
    return build_not_seen(
        n, f"The AUC does not differ significantly from its baseline: {scores_text}."
    )


def _lies_above(auc: Score) -> bool:
    return auc.low is not None and auc.baseline is not None and auc.low > auc.baseline


def _lies_below(auc: Score) -> bool:
    return auc.high is not None and auc.baseline is not None and auc.high < auc.baseline


KIND = ReportedMembership()
