"""Labels in a report: guessed classes of deleted samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shared.reporting.binomial import chance_band, tail_of_sum
from shared.reporting.evidence import SUSPICIOUS, TAIL, build_not_seen
from shared.reporting.formatting import (
    describe_chance,
    format_interval,
    format_number,
    format_probability,
    format_score,
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
    rule = (
        "A label attack leaks if the share of classes that it guesses correctly is above chance, "
        "where the chance level is that of its strongest baseline. If it is wrong more often than "
        "chance explains, the row is inconclusive: the opposite of its guesses would reveal classes."
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
    unscored = "labels"
    attacker_goal = "Privacy compromise: attribute inference (the class of the deleted samples)."
    caveats = (Caveat(50, _explain_claims),)

    def explain_untested(self, row: Measured) -> str:
        return f"No baseline: accuracy {format_score(row.metrics[LABEL_ACCURACY])}."

    def compute_p(self, rows: Sequence[Row | Measured]) -> float | None:
        trials = [_count_trials(row) for row in rows]
        known = [one for one in trials if one is not None]
        if len(known) < len(trials):
            return None
        return tail_of_sum(
            sum(one.correct for one in known), [c for one in known for c in one.chances]
        )

    def decide_pooled(
        self, rows: Sequence[Row | Measured], p: float, p_corrected: float
    ) -> Finding:
        scores = [row.metrics[LABEL_ACCURACY] for row in rows]
        n = sum(score.n for score in scores)
        scores_text = (
            f"accuracy {format_score(scores[0])}, baseline {format_number(scores[0].baseline)}"
            if len(scores) == 1
            else f"accuracy {format_number(_average(scores, lambda s: s.mean))}, baseline "
            f"{format_number(_average(scores, lambda s: s.baseline or 0.0))}, n = {n} over "
            f"{len(rows)} seeds"
        )
        if p_corrected <= TAIL:
            return Finding(
                outcome="leak",
                reason=(
                    "The accuracy is significantly above its baseline "
                    f"(p {format_probability(p_corrected)}): {scores_text}."
                ),
            )
        if p <= SUSPICIOUS:
            reason = (
                "Above its baseline, but this many correct guesses occur by chance with "
                f"probability {p:.3f} (corrected {p_corrected:.3f}): {scores_text}."
            )
            return Finding(outcome="inconclusive", reason=reason)
        if _compute_wrong_p(rows) <= TAIL:
            reason = (
                "Wrong more often than chance explains, so the opposite of these guesses reveals "
                f"classes: {scores_text}."
            )
            return Finding(outcome="inconclusive", reason=reason)
        return build_not_seen(
            n, f"The accuracy is not significantly above its baseline: {scores_text}."
        )

    def describe(self, row: Row) -> str:
        score = row.metrics[LABEL_ACCURACY]
        return f"accuracy {format_score(score)}, baseline {format_number(score.baseline)}"

    def describe_success(self, rows: Sequence[Row]) -> str:
        scores = [row.metrics[LABEL_ACCURACY] for row in rows]
        n, share = sum(score.n for score in scores), _average(scores, lambda s: s.mean)
        if all(row.size == 1 for row in rows):
            result = f"the class of {round(share * n)} of {n} deleted samples"
        else:
            result = f"{100 * share:.0f} % of the classes of deleted samples"
        return f"infers {result}; {describe_chance(_average(scores, lambda s: s.baseline or 0.0))}"

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


@dataclass(frozen=True)
class Trials:
    """Correct guesses, and the chance of each that could be."""

    correct: int
    chances: Sequence[float]


def _count_trials(row: Row | Measured, baseline: float | None = None) -> Trials | None:
    """Each class that a deletion could be right about is a trial: with several samples, its
    distinct classes if the guesses differ, else all samples.

    Guesses of one deletion exclude each other, so their number varies less than that of independent
    trials: the test errs on the safe side.

    Args:
        baseline: in place of the row's.
    """
    score = row.metrics[LABEL_ACCURACY]
    baseline = score.baseline if baseline is None else baseline
    if baseline is None:
        return None
    sizes = [
        (len(true), len({*true}) if len({*guessed}) == len(guessed) else len(true))
        for guessed, true in (
            zip(row.answers.labels, row.answers.truth, strict=True) if row.answers else ()
        )
    ]
    if len(sizes) != score.n:
        sizes = [(1, 1)] * score.n
    samples, possible = (sum(column) for column in zip(*sizes, strict=True))
    chance = min(1.0, baseline * samples / possible)
    return Trials(int(score.mean * samples + 1e-6), [chance] * possible)


def _compute_wrong_p(rows: Sequence[Row | Measured]) -> float:
    """Probability of as few correct guesses, if all were made uniformly."""
    correct, chances = 0, list[float]()
    for row in rows:
        uniform = row.metrics[LABEL_ACCURACY].baselines.get("uniform_guess")
        trials = _count_trials(row, uniform)
        if trials is None:
            return 1.0
        correct += trials.correct
        chances += trials.chances
    return 1 - tail_of_sum(correct + 1, chances)


def _average(scores: Sequence[Score], value: Callable[[Score], float]) -> float:
    """The mean over all samples of the scores."""
    return sum(value(score) * score.n for score in scores) / sum(score.n for score in scores)


KIND = ReportedLabels()
