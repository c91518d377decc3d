"""Membership in a report: candidates that were told from samples never trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shared.evaluation import Evaluation
from shared.reporting.binomial import auc_band
from shared.reporting.evaluations import identity
from shared.reporting.evidence import TAIL, chance_of_share, not_seen
from shared.reporting.kind import Limit, ReportedKind, Section, View
from shared.reporting.models import Finding, Row, Score
from shared.reporting.numbers import attacks_of, number, plural, probability, scored
from shared.reporting.row_charts import Chart, ShareChart, draw_shares

MEMBER, TELLING, STAYED = "auc_forgotten", "tpr_forgotten", "auc_retained"
TELLING_STAYED = "tpr_retained"
CHART = ShareChart(
    MEMBER,
    "AUC of the forgotten, against samples never trained on",
    "Membership against chance.",
    baseline=0.5,
    band=lambda score: auc_band(score.n, score.others or score.n),
)
METRIC_NAMES = {
    MEMBER: "AUC, forgotten",
    STAYED: "AUC, retained",
    TELLING: "TPR at 5 % FPR, forgotten",
    TELLING_STAYED: "TPR at 5 % FPR, retained",
}
RULE = (
    "A membership attack leaks where it tells forgotten samples from others of their class that were never trained on: "
    f"the 95 % interval of the AUC lies above 0.5, and chance gives as much with a probability of at most {TAIL}. "
    "Where it lies below, the row is inconclusive: the scores tell them too, the other way round. So it is where only "
    "the true positive rate is above chance: a few are told, though most are not. What is told of samples that stayed "
    "is said beside it and decides nothing: they were not deleted."
)


def _members(rows: Sequence[Row]) -> str | None:
    if not any(MEMBER in row.metrics for row in rows):
        return None
    return (
        "A membership attacker holds the candidates themselves and asks only which of them was forgotten: it tells who "
        "was deleted, and rebuilds nothing. Samples are compared within their class, so a class that drifts as a whole "
        "counts for nothing; the candidates that were never trained on are drawn like those that were."
    )


class Membership(ReportedKind):
    metric = MEMBER
    severity = 100
    subject = "Who was deleted can be told, among candidates,"
    rule = RULE
    shares = (MEMBER, STAYED, TELLING, TELLING_STAYED)
    metric_names = METRIC_NAMES
    limits = (Limit(40, _members),)

    def judge(self, evaluation: Evaluation, metrics: Mapping[str, Score]) -> Finding:  # noqa: ARG002 - as all kinds
        auc, tpr = metrics[MEMBER], metrics.get(TELLING)
        found = distinguish(auc)
        if found.outcome != "not_seen" or tpr is None or tpr.low is None or tpr.null is None or tpr.low <= tpr.null:
            return found
        if tpr.interval == "wilson" and chance_of_share(tpr, tpr.null) > TAIL:
            return found
        reason = (
            f"Only the true positive rate is clear of chance: {scored(tpr)}, null {number(tpr.null)}. {found.reason}"
        )
        return Finding(outcome="inconclusive", reason=reason)

    def describe(self, row: Row) -> str:
        score = row.metrics[MEMBER]
        return f"AUC {scored(score)}, null {number(score.null)}"

    def close(self, rows: Sequence[Row]) -> str | None:
        """What the releases tell of samples that nobody deleted."""
        if not (scores := [score for row in rows if (score := row.metrics.get(STAYED))]):
            return None
        turned = [
            score for score in scores if score.high is not None and score.null is not None and score.high < score.null
        ]
        leaking = [score for score in scores if distinguish(score).outcome == "leak"] + turned
        if leaking:
            most = max(leaking, key=lambda score: abs(score.mean - (score.null or 0.0)))
            return (
                f"Who stayed in the training set is told too, in {len(leaking)} of {plural(len(scores), 'row')}: AUC "
                f"{scored(most)} against samples never trained on{', the other way round' if most in turned else ''}."
            )
        ends = dict.fromkeys(number(end) for end in (min(s.mean for s in scores), max(s.mean for s in scores)))
        return f"Who stayed in the training set was not told from samples never trained on (AUC {' to '.join(ends)})."

    def section(self, view: View) -> Section | None:
        every = [(mark, row) for mark, row in view.rows if MEMBER in row.metrics]
        found = []
        for attack in attacks_of(row for _, row in every):
            rows = [(mark, row) for mark, row in every if identity(row.attack) == identity(attack)]
            found.append(Chart(view.names(attack), MEMBER, draw_shares(rows, CHART, view.names), rows))
        return Section("members", "Members", "membership.html", found) if found else None


def distinguish(auc: Score) -> Finding:
    """Whether samples are told from those that were never trained on, by their AUC against them."""
    told = f"AUC {scored(auc)}, null {number(auc.null)}" + ("" if auc.p is None else f", p {probability(auc.p)}")
    if auc.low is None or auc.high is None or auc.null is None:
        return Finding(outcome="inconclusive", reason=f"No interval or no null to compare with: {told}.")
    if auc.high < auc.null:
        return Finding(outcome="inconclusive", reason=f"Told the other way round, by turning the score: {told}.")
    if auc.low > auc.null:
        if auc.p is None or auc.p > TAIL:
            return Finding(outcome="inconclusive", reason=f"Above its null, but by chance that is not rare: {told}.")
        return Finding(outcome="leak", reason=f"The AUC is clear of its null: {told}.")
    return not_seen(auc.n, f"The AUC is not clear of its null: {told}.")


KIND = Membership()
