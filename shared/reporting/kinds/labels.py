"""Labels in a report: classes of deleted samples that were named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shared.evaluation import Evaluation
from shared.reporting.binomial import chance_band
from shared.reporting.evidence import TAIL, chance_of_share, not_seen
from shared.reporting.kind import Limit, ReportedKind, Section, View
from shared.reporting.models import Finding, Row, Score
from shared.reporting.numbers import interval, number, scored
from shared.reporting.row_charts import Chart, ShareChart, draw_shares

LABEL = "label_accuracy"
CHART = ShareChart(
    LABEL,
    "share of classes named rightly",
    "Label inference against chance.",
    baseline=0.0,
    band=lambda score: chance_band(score.n, score.null or 0.0),
)
METRIC_NAMES = {LABEL: "label accuracy"}
BASELINE_NAMES = {
    "permuted_truth": "other deletion’s",
    "uniform_guess": "uniform guess",
    "majority_guess": "commonest class",
}


def _claims(rows: Sequence[Row]) -> str | None:
    if not any(row.answers and row.answers.claims for row in rows):
        return None
    return (
        "P-values of label attacks are the auditor's, who can make deletions again on samples of the same kind; an "
        "attacker who has only queries has none. A wrong claim has probability alpha at most where the deletions are "
        "like the shadow deletions; those of one training set err together, so a row may have more or fewer."
    )


class Labels(ReportedKind):
    metric = LABEL
    severity = 200
    subject = "The classes of deleted samples can be read back"
    rule = "A label attack leaks where it names more classes rightly than the strongest null gives."
    shares = (LABEL,)
    metric_names = METRIC_NAMES
    baseline_names = BASELINE_NAMES
    lists_baselines = True
    limits = (Limit(50, _claims),)

    def judge(self, evaluation: Evaluation, metrics: Mapping[str, Score]) -> Finding:  # noqa: ARG002 - as all kinds
        accuracy = metrics[LABEL]
        told = f"accuracy {scored(accuracy)}, null {number(accuracy.null)}"
        if accuracy.low is None or accuracy.null is None:
            return Finding(outcome="inconclusive", reason=f"No interval or no null to compare with: {told}.")
        if accuracy.low > accuracy.null:
            by_chance = chance_of_share(accuracy, accuracy.null)
            if by_chance > TAIL:
                reason = f"Above its null, but so many come by chance with probability {by_chance:.3f}: {told}."
                return Finding(outcome="inconclusive", reason=reason)
            return Finding(outcome="leak", reason=f"The accuracy is clear of its null: {told}.")
        return not_seen(accuracy.n, f"The accuracy is not clear of its null: {told}.")

    def describe(self, row: Row) -> str:
        score = row.metrics[LABEL]
        return f"accuracy {scored(score)}, null {number(score.null)}"

    def note(self, row: Row) -> str | None:
        answers = row.answers
        if answers is None or answers.claims is None:
            return None
        c = answers.claims
        right = f", {c.right} of them rightly {interval(c.right_low, c.right_high)}" if c.answered else ""
        silent = f"; no answer on the other {c.n - c.answered}" if c.answered < c.n else ""
        return (
            f"With p-values from {c.shadows} shadow deletions, at alpha {c.alpha:g}: {c.answered} of {c.n} deletions "
            f"answered{right}; {c.wrong} of {c.n} wrongly {interval(c.wrong_low, c.wrong_high)}{silent}."
        )

    def section(self, view: View) -> Section | None:
        rows = [(mark, row) for mark, row in view.rows if LABEL in row.metrics]
        if not rows:
            return None
        return Section("labels", "Labels", "labels.html", Chart("", LABEL, draw_shares(rows, CHART, view.names), rows))


KIND = Labels()
