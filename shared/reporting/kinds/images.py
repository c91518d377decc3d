"""Images in a report: deleted samples that were read back, ranked among decoys and scored beside their nulls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.evaluation import Evaluation
from shared.reporting.binomial import chance_of
from shared.reporting.evidence import TAIL, not_seen
from shared.reporting.kind import Limit, ReportedKind, Section, View
from shared.reporting.models import Finding, Identification, Row, Score
from shared.reporting.numbers import gained, interval, plural
from shared.reporting.pictures import Gallery, shown

IMAGE, RANK = "psnr", "decoy_rank_1"
METRIC_NAMES = {
    IMAGE: "PSNR",
    "ssim": "SSIM",
    "mse": "MSE",
    "haarpsi": "HaarPSI",
    "feature_distance": "feature distance",
    "lpips": "LPIPS",
    RANK: "identified",
}
BASELINE_NAMES = {
    "class_mean": "class mean",
    "permuted_truth": "other deletion’s",
    "nearest_public": "nearest public",
    "random_direction": "random direction",
}
RULE = (
    "An image attack leaks where more deletions are identified among decoys than chance gives. Decoys are drawn from "
    "the data and the class of the deleted sample: who knows nothing of it picks each as often. The gain says how good "
    "the pictures are: where its 95 % interval lies above zero and identification does not exceed chance, the row is "
    "inconclusive."
)
FURTHER_RULES = (
    "One recovered image is a leak for one person: where any deletion is identified and its own score beats its own "
    "null, the row is inconclusive at least. An identified deletion whose score does not beat its null is chance.",
)


def _definition(rows: Sequence[Row]) -> str | None:
    if not any(IMAGE in row.metrics for row in rows):
        return None
    return (
        "PSNR has peak 1 on values in [0, 1] (a mean squared error of 0.01 is 20 dB). PSNR alone misleads on dark "
        "or smooth images: read it next to its null and the rank."
    )


def _judged(rows: Sequence[Row]) -> str | None:
    if not any("feature_distance" in row.metrics for row in rows):
        return None
    return (
        "Feature distance is measured in a network trained here: the audit's architecture, from another seed, never "
        "attacked. It is not LPIPS, and values of audits with different judges do not compare."
    )


def _enlarged(rows: Sequence[Row]) -> str | None:
    if not any("lpips" in row.metrics for row in rows):
        return None
    return (
        "LPIPS is measured with the weights that the audit names (their sha256 is among the conditions), on images "
        "whose smaller side is enlarged to 64 pixels; it was made for larger photographs."
    )


@dataclass(frozen=True)
class Galleries:
    """What the section shows: each row with its pictures, and how many of them are identified."""

    rows: Sequence[tuple[Row, Gallery, str | None]]
    tables: bool  # whether any pictures are rows of a table
    named: bool  # whether the audit says which samples are deleted


class Images(ReportedKind):
    metric = IMAGE
    severity = 300
    subject = "Deleted samples can be read back"
    rule = RULE
    further_rules = FURTHER_RULES
    metric_names = METRIC_NAMES
    baseline_names = BASELINE_NAMES
    lists_baselines = True
    tradeoff = "PSNR"
    terms = (
        (
            "identified",
            "the deleted image is nearer to the reconstruction than every decoy, a public image of its class.",
        ),
    )
    derived = (RANK,)
    limits = (
        Limit(15, _definition),
        Limit(14, _judged),
        Limit(13, _enlarged),
    )

    def judge(self, evaluation: Evaluation, metrics: Mapping[str, Score]) -> Finding:
        psnr, ranks, recovered = metrics[IMAGE], evaluation.ranks, count_recovered(evaluation)
        if ranks is None:
            reason = f"No decoys to identify among: gain {gained(psnr)} over the null."
            return Finding(outcome="inconclusive", reason=reason)
        told = f"gain {gained(psnr)} over the null, {identified(ranks)} {interval(ranks.low, ranks.high)}"
        if psnr.gain_low is None or ranks.low is None:
            return Finding(outcome="inconclusive", reason=f"Too few samples for an interval: {told}.")
        above = psnr.gain_low > 0
        picked = ranks.low > ranks.chance and chance_of(ranks.rank_1, ranks.n, ranks.chance) <= TAIL
        if picked:
            beside = "and so is the gain" if above else "the mean gain is not"
            return Finding(outcome="leak", reason=f"Identification is clear of chance, {beside}: {told}.")
        if above:
            return Finding(outcome="inconclusive", reason=f"Only the gain is clear of its null: {told}.")
        if recovered:
            reason = f"{plural(recovered, 'deletion')} of {ranks.n} recovered, too few to call it a leak: {told}."
            return Finding(outcome="inconclusive", reason=reason)
        return not_seen(psnr.n, f"Neither measure is clear of its null: {told}.")

    def describe(self, row: Row) -> str:
        gain = f"{gained(row.metrics[IMAGE])} over the null"
        return f"{identified(row.identification)}, {gain}" if row.identification else gain

    def derive_scores(self, evaluation: Evaluation) -> dict[str, Score]:
        """Identification as a proportion."""
        ranks = evaluation.ranks
        if ranks is None:
            return {}
        score = Score(
            mean=ranks.share,
            low=ranks.low,
            high=ranks.high,
            interval=ranks.interval,
            null=ranks.chance,
            null_name="chance",
            n=ranks.n,
            unit="share",
            higher_is_better=True,
            gain=ranks.share - ranks.chance,
            gain_low=None if ranks.low is None else ranks.low - ranks.chance,
            gain_high=None if ranks.high is None else ranks.high - ranks.chance,
        )
        return {RANK: score}

    def count(self, rows: Sequence[Row]) -> str | None:
        ranks = [row.identification for row in rows if row.identification]
        return f"{sum(r.rank_1 for r in ranks)} of {sum(r.n for r in ranks)} identified" if ranks else None

    def section(self, view: View) -> Section | None:
        galleries = shown(view.report.rows, view.galleries)
        told = [
            (row, gallery, identified(row.identification) if row.identification else None) for row, gallery in galleries
        ]
        named = view.report.provenance.audit.get("forget", {}).get("indices") is not None
        content = Galleries(told, any(gallery.table for _, gallery in galleries), named)
        return Section("pictures", "Pictures", "images.html", content) if told else None


def identified(ranks: Identification) -> str:
    """`8 of 8 identified among 100 decoys`."""
    return f"{ranks.rank_1} of {ranks.n} identified among {ranks.decoys} decoys"


def count_recovered(evaluation: Evaluation) -> int:
    """Deletions that are identified and whose own score beats their own null; all identified where scores are not told.

    A rank of 1 alone comes by chance, once in decoys + 1.
    """
    ranks, score = evaluation.ranks, evaluation.metrics.get(IMAGE)
    if ranks is None or score is None:
        return 0
    nulls = score.null_values.get(score.null_name or "", [])
    if not len(ranks.ranks) == len(score.values) == len(nulls) == ranks.n:
        return ranks.rank_1
    both = zip(ranks.ranks, score.values, nulls, strict=True)
    return sum(rank == 1 and own > null for rank, own, null in both)


KIND = Images()
