"""Labels in a report: guessed classes of deleted samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shared.evaluation import Evaluation
from shared.reporting.binomial import chance_band
from shared.reporting.evidence import TAIL, build_not_seen, compute_chance
from shared.reporting.formatting import format_interval, format_number, format_score
from shared.reporting.models import Finding, Row, Score
from shared.reporting.reported_kind import (
    Caveat,
    PrivacyTestScope,
    ReportedKind,
    Section,
    View,
)
from shared.reporting.row_charts import Chart, ShareChart, draw_shares

LABEL_ACCURACY = "label_accuracy"
CHART = ShareChart(
    LABEL_ACCURACY,
    "share of classes guessed correctly",
    "Label inference against chance.",
    baseline=0.0,
    band=lambda score: chance_band(score.n, score.baseline or 0.0),
)
METRIC_NAMES = {LABEL_ACCURACY: "label accuracy"}
BASELINE_NAMES = {
    "permuted_truth": "other deletion’s",
    "uniform_guess": "uniform guess",
    "majority_guess": "majority class",
}


def _explain_claims(rows: Sequence[Row]) -> str | None:
    if not any(row.answers and row.answers.claims for row in rows):
        return None
    return (
        "P-values of label attacks are computed by the auditor, who can repeat deletions on "
        "similar samples; an attacker with query access only cannot. A wrong claim has "
        "probability at most alpha if the deletions are distributed like the shadow deletions; "
        "errors within one training set are correlated, so the error rate of a single row may be "
        "higher or lower."
    )


class ReportedLabels(ReportedKind):
    metric = LABEL_ACCURACY
    severity = 200
    subject = "The classes of deleted samples can be inferred"
    rule = (
        "A label attack leaks if the share of classes that it guesses correctly is above chance, "
        "where the chance level is that of its strongest baseline."
    )
    shares = (LABEL_ACCURACY,)
    metric_names = METRIC_NAMES
    baseline_names = BASELINE_NAMES
    lists_baselines = True
    privacy_tests = (
        PrivacyTestScope(
            "attribute inference",
            "One attribute is inferred, the class of the deleted samples; no other is.",
            in_part=True,
        ),
    )
    attacker_goal = "Privacy compromise: attribute inference (the class of the deleted samples)."
    caveats = (Caveat(50, _explain_claims),)

    def decide_row(self, evaluation: Evaluation, metrics: Mapping[str, Score]) -> Finding:  # noqa: ARG002 - as all kinds
        accuracy = metrics[LABEL_ACCURACY]
        scores_text = (
            f"accuracy {format_score(accuracy)}, baseline {format_number(accuracy.baseline)}"
        )
        if accuracy.low is None or accuracy.baseline is None:
            return Finding(
                outcome="inconclusive",
                reason=f"No confidence interval or no baseline: {scores_text}.",
            )
        if accuracy.low > accuracy.baseline:
            chance = compute_chance(accuracy, accuracy.baseline)
            if chance > TAIL:
                reason = (
                    "Above its baseline, but this many occur by chance with probability "
                    f"{chance:.3f}: {scores_text}."
                )
                return Finding(outcome="inconclusive", reason=reason)
            return Finding(
                outcome="leak",
                reason=f"The accuracy is significantly above its baseline: {scores_text}.",
            )
        return build_not_seen(
            accuracy.n, f"The accuracy is not significantly above its baseline: {scores_text}."
        )

    def describe(self, row: Row) -> str:
        score = row.metrics[LABEL_ACCURACY]
        return f"accuracy {format_score(score)}, baseline {format_number(score.baseline)}"

    def write_note(self, row: Row) -> str | None:
        guesses = row.answers
        if guesses is None or guesses.claims is None:
            return None
        c = guesses.claims
        correct = (
            f", {c.correct} of them correctly {format_interval(c.correct_low, c.correct_high)}"
            if c.answered
            else ""
        )
        silent = f"; no answer on the other {c.n - c.answered}" if c.answered < c.n else ""
        return (
            f"With p-values from {c.shadows} shadow deletions, at alpha {c.alpha:g}: "
            f"{c.answered} of {c.n} deletions answered{correct}; {c.wrong} of {c.n} incorrectly "
            f"{format_interval(c.wrong_low, c.wrong_high)}{silent}."
        )

    def build_section(self, view: View) -> Section | None:
        rows = [(mark, row) for mark, row in view.rows if LABEL_ACCURACY in row.metrics]
        if not rows:
            return None
        return Section(
            "labels",
            "Labels",
            "labels.html",
            Chart("", LABEL_ACCURACY, draw_shares(rows, CHART, view.names), rows),
        )


KIND = ReportedLabels()
