"""Images in a report: reconstructed samples, ranked among decoys and scored against baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.evaluation import Evaluation
from shared.forget_sets import list_forget_sets
from shared.reporting.binomial import chance_of
from shared.reporting.evidence import TAIL, build_not_seen
from shared.reporting.formatting import format_gain, format_interval, pluralise
from shared.reporting.models import Finding, Identification, Row, Score
from shared.reporting.pictures import Gallery, select_galleries
from shared.reporting.reported_kind import (
    Caveat,
    PrivacyTestScope,
    ReportedKind,
    Section,
    View,
)

PSNR, IDENTIFIED = "psnr", "decoy_rank_1"
METRIC_NAMES = {
    PSNR: "PSNR",
    "ssim": "SSIM",
    "mse": "MSE",
    "haarpsi": "HaarPSI",
    "feature_distance": "feature distance",
    "lpips": "LPIPS",
    IDENTIFIED: "identified",
}
BASELINE_NAMES = {
    "class_mean": "class mean",
    "permuted_truth": "other deletion’s",
    "nearest_public": "nearest public",
    "random_direction": "random direction",
}
RULE = (
    "An image attack leaks if more deletions are identified among decoys than expected by chance. "
    "Decoys have the same data distribution and class as the deleted sample, so an attacker "
    "without information is equally likely to pick any of them. The gain measures the quality of "
    "the reconstructions: if its 95 % interval lies above zero but identification does not exceed "
    "chance, the row is inconclusive."
)
FURTHER_RULES = (
    "Even a single reconstructed image can expose a person: if any deletion is identified and its "
    "score beats its own baseline, the row is at least inconclusive. Otherwise the identification "
    "counts as chance.",
)


def _explain_psnr(rows: Sequence[Row]) -> str | None:
    if not any(PSNR in row.metrics for row in rows):
        return None
    return (
        "PSNR is computed for values in [0, 1] with peak 1 (a mean squared error of 0.01 is 20 "
        "dB). PSNR alone is misleading for dark or smooth images: compare it with its baseline, "
        "and look at the rank."
    )


def _explain_feature_distance(rows: Sequence[Row]) -> str | None:
    if not any("feature_distance" in row.metrics for row in rows):
        return None
    return (
        "Feature distance is measured in a network of the audit's architecture that was "
        "pretrained with another seed and never attacked. It is not LPIPS, and values are only "
        "comparable between audits that use the same network."
    )


def _explain_lpips(rows: Sequence[Row]) -> str | None:
    if not any("lpips" in row.metrics for row in rows):
        return None
    return (
        "LPIPS is measured with the weights that the audit names (their sha256 is listed under "
        "“conditions”), on images whose smaller side is enlarged to 64 pixels; it was made for "
        "larger photographs."
    )


@dataclass(frozen=True)
class Galleries:
    """The content of the section: each row with its pictures, and how many are identified."""

    rows: Sequence[tuple[Row, Gallery, str | None]]
    tables: bool  # whether any pictures are rows of a table
    named: bool  # whether the audit says which samples are deleted


class ReportedImages(ReportedKind):
    metric = PSNR
    severity = 300
    subject = "Deleted samples can be reconstructed"
    rule = RULE
    further_rules = FURTHER_RULES
    metric_names = METRIC_NAMES
    baseline_names = BASELINE_NAMES
    lists_baselines = True
    tradeoff = "PSNR"
    terms = (
        (
            "identified",
            "the deleted image is nearer to the reconstruction than every decoy, a public image "
            "of its class.",
        ),
    )
    derived = (IDENTIFIED,)
    privacy_tests = (
        PrivacyTestScope(
            "reconstruction",
            "Attacks reconstruct the deleted samples; the results are compared with the originals.",
        ),
        PrivacyTestScope(
            "model inversion",
            "The attacks invert the difference between two models. No attack inverts a released "
            "model on its own.",
            in_part=True,
        ),
    )
    attacker_goal = "Privacy compromise: data reconstruction."
    caveats = (
        Caveat(15, _explain_psnr),
        Caveat(14, _explain_feature_distance),
        Caveat(13, _explain_lpips),
    )

    def decide_row(self, evaluation: Evaluation, metrics: Mapping[str, Score]) -> Finding:
        psnr, ranks, above_baseline = (
            metrics[PSNR],
            evaluation.reported_identification,
            count_identified_above_baseline(evaluation),
        )
        if ranks is None:
            reason = (
                f"No decoys available for identification: gain {format_gain(psnr)} over the "
                "baseline."
            )
            return Finding(outcome="inconclusive", reason=reason)
        scores_text = (
            f"gain {format_gain(psnr)} over the baseline, {describe_identification(ranks)} "
            f"{format_interval(ranks.low, ranks.high)}"
        )
        if psnr.gain_low is None or ranks.low is None:
            return Finding(
                outcome="inconclusive",
                reason=f"Too few samples for a confidence interval: {scores_text}.",
            )
        gain_clear = psnr.gain_low > 0
        identification_clear = (
            ranks.low > ranks.chance and chance_of(ranks.rank_1, ranks.n, ranks.chance) <= TAIL
        )
        if identification_clear:
            beside = (
                "and the gain is significant too"
                if gain_clear
                else "but the mean gain is not significant"
            )
            return Finding(
                outcome="leak",
                reason=f"Identification is significantly above chance, {beside}: {scores_text}.",
            )
        if gain_clear:
            return Finding(
                outcome="inconclusive", reason=f"Only the gain is significant: {scores_text}."
            )
        if above_baseline:
            reason = (
                f"{pluralise(above_baseline, 'deletion')} of {ranks.n} identified above the "
                f"baseline, too few to be significant: {scores_text}."
            )
            return Finding(outcome="inconclusive", reason=reason)
        return build_not_seen(
            psnr.n, f"Neither identification nor gain is significant: {scores_text}."
        )

    def describe(self, row: Row) -> str:
        gain = f"gain {format_gain(row.metrics[PSNR])} over the baseline"
        return (
            f"{describe_identification(row.identification)}, {gain}" if row.identification else gain
        )

    def derive_scores(self, evaluation: Evaluation) -> dict[str, Score]:
        """Identification as a proportion."""
        ranks = evaluation.reported_identification
        if ranks is None:
            return {}
        score = Score(
            mean=ranks.share,
            low=ranks.low,
            high=ranks.high,
            interval=ranks.interval,
            baseline=ranks.chance,
            baseline_name="chance",
            n=ranks.n,
            unit="share",
            higher_is_better=True,
            gain=ranks.share - ranks.chance,
            gain_low=None if ranks.low is None else ranks.low - ranks.chance,
            gain_high=None if ranks.high is None else ranks.high - ranks.chance,
        )
        return {IDENTIFIED: score}

    def describe_counts(self, rows: Sequence[Row]) -> str | None:
        ranks = [row.identification for row in rows if row.identification]
        return (
            f"{sum(r.rank_1 for r in ranks)} of {sum(r.n for r in ranks)} identified"
            if ranks
            else None
        )

    def build_section(self, view: View) -> Section | None:
        galleries = select_galleries(view.report.rows, view.galleries)
        rows = [
            (
                row,
                gallery,
                describe_identification(row.identification) if row.identification else None,
            )
            for row, gallery in galleries
        ]
        named = list_forget_sets(view.report.provenance.audit.get("forget", {})) is not None
        content = Galleries(rows, any(gallery.table for _, gallery in galleries), named)
        return Section("pictures", "Pictures", "images.html", content) if rows else None


def describe_identification(ranks: Identification) -> str:
    """`8 of 8 identified among 100 decoys`."""
    return f"{ranks.rank_1} of {ranks.n} identified among {ranks.decoys} decoys"


def count_identified_above_baseline(evaluation: Evaluation) -> int:
    """Identified deletions whose score beats their own baseline; all identified ones if scores are
    missing.

    A rank of 1 alone occurs by chance, once in decoys + 1.
    """
    ranks, score = evaluation.reported_identification, evaluation.metrics.get(PSNR)
    if ranks is None or score is None:
        return 0
    baseline_values = score.baseline_values.get(score.baseline_name or "", [])
    if not len(ranks.ranks) == len(score.values) == len(baseline_values) == ranks.n:
        return ranks.rank_1
    triples = zip(ranks.ranks, score.values, baseline_values, strict=True)
    return sum(rank == 1 and own > baseline for rank, own, baseline in triples)


KIND = ReportedImages()
