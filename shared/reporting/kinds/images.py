"""Images in a report: reconstructed samples, ranked among decoys and scored against baselines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from shared.evaluation import Evaluation
from shared.forget_sets import list_forget_sets
from shared.reporting.binomial import share_not_excluded
from shared.reporting.evidence import SUSPICIOUS, TAIL, build_not_seen
from shared.reporting.formatting import (
    describe_chance,
    format_gain,
    format_interval,
    format_number,
    format_percent,
    format_probability,
    format_score,
    pluralise,
)
from shared.reporting.models import Finding, Identification, Row, Score
from shared.reporting.pictures import Gallery, select_galleries
from shared.reporting.rank_tests import RankTests, compute_own_p, run_rank_tests
from shared.reporting.reported_kind import (
    Caveat,
    Measured,
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
    "An image attack leaks if deleted samples rank lower among their decoys than chance explains, "
    "where rank 1 is nearest to the reconstruction. Four things are tested: the number of samples "
    "of rank 1, the sum of the ranks, the widest margin of a sample of rank 1, and the number of "
    "samples of rank 1 among those with the widest margins. Decoys have the same data distribution "
    "and class as the deleted sample, so an attacker without information is equally likely to give "
    "it each rank. The tests have 0.25, 0.25, 0.4 and 0.1 of the significance level, in this "
    "order; the attack's p-value is the smallest of the four p-values after each is divided by its "
    "share."
)
FURTHER_RULES = (
    "“Reconstructs” requires that an identified sample also scores above its own baseline; otherwise "
    "deleted samples are only picked out from others of their class. A gain whose 95 % interval lies above zero "
    "makes a row inconclusive, not a leak: the baseline may be weak.",
    "Even a single reconstructed image can expose a person: if any deletion is identified and its "
    "score beats its own baseline, the row is at least inconclusive.",
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


def _explain_decoys(rows: Sequence[Row]) -> str | None:
    compared = [
        (auc, limit)
        for row in rows
        if (ranks := row.identification)
        and (auc := ranks.split_auc) is not None
        and (limit := ranks.split_auc_limit) is not None
    ]
    if not compared:
        return None
    auc, limit = max(compared)
    start = (
        "Decoys are drawn like the deleted samples, and no model was trained on them. They are "
        "samples of the pool, "
    )
    distance = f"a linear rule tells the splits apart with an AUC of {auc:.2f}, limit {limit:.2f}"
    if auc > limit:
        return (
            f"{start}but not of the test split, which is drawn differently ({distance}): some "
            "samples may have few decoys or none."
        )
    return (
        f"{start}and where these run out, then of the test split, which looks alike "
        f"({distance}). Deletions of one class share decoys, so many deletions of "
        "the same class are not quite independent."
    )


@dataclass(frozen=True)
class Galleries:
    """The content of the section: each row with its pictures, and how many are identified."""

    rows: Sequence[tuple[Row, Gallery, str | None]]
    tables: bool  # whether any pictures are rows of a table
    named: bool  # whether the audit says which samples are deleted
    has_baselines: bool  # whether there are pictures of baselines, from public samples


class ReportedImages(ReportedKind):
    metric = PSNR
    severity = 300
    rule = RULE
    further_rules = FURTHER_RULES
    metric_names = METRIC_NAMES
    baseline_names = BASELINE_NAMES
    lists_baselines = True
    tradeoff = "PSNR"
    terms = (
        (
            "identified",
            "the deleted image is nearer to the reconstruction than every decoy. A decoy is "
            "another image of the same class, drawn like the deleted one, that no model was "
            "trained on.",
        ),
        (
            "margin",
            "among a deleted image and its decoys, the lead in dB of the one nearest to the "
            "reconstruction over the second nearest.",
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
    unscored = "images"
    attacker_goal = "Privacy compromise: data reconstruction."
    caveats = (
        Caveat(17, _explain_decoys),
        Caveat(15, _explain_psnr),
        Caveat(14, _explain_feature_distance),
        Caveat(13, _explain_lpips),
    )

    def explain_untested(self, row: Measured) -> str:
        if not {"class_mean", "nearest_public"} & row.metrics[PSNR].baselines.keys():
            return (
                "No public samples were brought, so there are no decoys to rank the deleted samples "
                f"among and no baseline from public data: PSNR {format_score(row.metrics[PSNR])}."
            )
        return (
            "Identification was not possible, as there are no decoys: neither the pool nor a "
            "test split drawn like the pool has samples of these classes. Gain "
            f"{format_gain(row.metrics[PSNR])} over the baseline."
        )

    def compute_p(self, rows: Sequence[Row | Measured]) -> float | None:
        tests = _run_tests(rows)
        return tests.p if tests else None

    def decide_pooled(
        self, rows: Sequence[Row | Measured], p: float, p_corrected: float
    ) -> Finding:
        all_ranks = [row.identification for row in rows if row.identification]
        n, above = sum(r.n for r in all_ranks), _count_above_baseline(all_ranks)
        tests = _run_tests(rows)
        assert tests is not None
        scores_text = f"{_describe_scores(rows, all_ranks)}, {_describe_tests(tests)}"
        if p_corrected <= TAIL:
            pictures = (
                f"{pluralise(above, 'identified sample')} above "
                f"{'its' if above == 1 else 'their'} own baseline"
                if above
                else "but no identified sample scores above its own baseline"
            )
            reason = (
                f"Ranks among decoys are lower than chance explains "
                f"(p {format_probability(p_corrected)}), {pictures}: {scores_text}."
            )
            return Finding(outcome="leak", reason=reason)
        if p <= SUSPICIOUS:
            reason = (
                "Ranks among decoys are lower than expected, but not significantly "
                f"(p {format_probability(p)}, corrected {format_probability(p_corrected)}): "
                f"{scores_text}."
            )
            return Finding(outcome="inconclusive", reason=reason)
        if any((low := row.metrics[PSNR].gain_low) is not None and low > 0 for row in rows):
            return Finding(
                outcome="inconclusive", reason=f"Only the gain is significant: {scores_text}."
            )
        if above:
            reason = (
                f"{pluralise(above, 'deletion')} of {n} identified above the "
                f"baseline, too few to be significant: {scores_text}."
            )
            return Finding(outcome="inconclusive", reason=reason)
        return build_not_seen(
            n,
            f"Neither ranks among decoys nor the gain are significant: {scores_text}. "
            f"{_describe_share_not_excluded(all_ranks)}",
        )

    def describe_success(self, rows: Sequence[Row]) -> str:
        all_ranks = [row.identification for row in rows if row.identification]
        n, identified = sum(r.n for r in all_ranks), sum(r.rank_1 for r in all_ranks)
        expected = sum(ranks.n * ranks.chance for ranks in all_ranks)
        samples, chance = f"of {n} deleted samples", describe_chance(expected / n)
        if above := _count_above_baseline(all_ranks):
            return f"reconstructs {above} {samples}; {chance}"
        if identified > expected:
            return (
                f"picks {identified} {samples} out from others of their class, but reconstructs "
                f"none; {chance}"
            )
        nearest = 100 * median(
            rank / (decoys + 1)
            for ranks in all_ranks
            for rank, decoys in zip(ranks.ranks, ranks.decoy_counts, strict=True)
            if rank is not None
        )
        return (
            f"places half of the deleted samples among the {format_percent(nearest)} % of their "
            "class that are nearest to its answers, but reconstructs none; by chance it would be 50 %"
        )

    def describe_unseen(self, rows: Sequence[Row]) -> str | None:
        all_ranks = [row.identification for row in rows if row.identification]
        return _describe_share_not_excluded(all_ranks) if all_ranks else None

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
        has_baselines = any(
            one.baseline is not None for _, gallery in galleries for one in gallery.pictures
        )
        tables = any(gallery.table for _, gallery in galleries)
        content = Galleries(rows, tables, named, has_baselines)
        return Section("pictures", "Pictures", "images.html", content) if rows else None


def describe_identification(ranks: Identification) -> str:
    """`8 of 8 identified among 100 decoys`, or `among 40 to 100 decoys` if samples differ."""
    return f"{ranks.rank_1} of {ranks.n} identified among {_describe_decoys([ranks])}"


def _describe_decoys(all_ranks: Sequence[Identification]) -> str:
    counts = {count for ranks in all_ranks for count in ranks.decoy_counts if count}
    counts = counts or {ranks.decoys for ranks in all_ranks}
    least, most = min(counts), max(counts)
    return pluralise(most, "decoy") if least == most else f"{least} to {most} decoys"


def _run_tests(rows: Sequence[Row | Measured]) -> RankTests | None:
    """The tests of ranks over all rows; None if nothing was ranked."""
    all_ranks = [row.identification for row in rows if row.identification]
    ranked = [
        (rank, decoys, margin)
        for one in all_ranks
        for rank, decoys, margin in zip(
            one.ranks, one.decoy_counts, one.margins or [0.0] * len(one.ranks), strict=True
        )
        if rank is not None and margin is not None
    ]
    if not ranked:
        return None
    ranks, decoys, margins = zip(*ranked, strict=True)
    return run_rank_tests(ranks, decoys, margins)


def _count_above_baseline(all_ranks: Sequence[Identification]) -> int:
    """Identified samples that also score above their own baseline; all identified ones if scores
    are missing."""
    return sum(
        ranks.rank_1 if ranks.above_baseline is None else ranks.above_baseline
        for ranks in all_ranks
    )


def _describe_scores(rows: Sequence[Row | Measured], all_ranks: Sequence[Identification]) -> str:
    """Gain and identification: of one row, or of all seeds together."""
    if len(rows) == 1:
        (ranks,) = all_ranks
        return (
            f"gain {format_gain(rows[0].metrics[PSNR])} over the baseline, "
            f"{describe_identification(ranks)} {format_interval(ranks.low, ranks.high)}"
        )
    gains = [gain for row in rows if (gain := row.metrics[PSNR].gain) is not None]
    ends = (
        [format_number(end, "dB", sign=True) for end in (min(gains), max(gains))] if gains else []
    )
    identified, n = sum(r.rank_1 for r in all_ranks), sum(r.n for r in all_ranks)
    gain_text = f"gain {' to '.join(dict.fromkeys(ends))} over the baseline, " if ends else ""
    return (
        f"{gain_text}{identified} of {n} identified among {_describe_decoys(all_ranks)} "
        f"over {len(rows)} seeds"
    )


def _describe_tests(tests: RankTests) -> str:
    number, rank_sum, margin, clearest = (
        format_probability(p) for p in (tests.count, tests.rank_sum, tests.margin, tests.clearest)
    )
    return (
        f"p {number} by the number identified, {rank_sum} by the sum of ranks, {margin} by the "
        f"widest margin, {clearest} by the number identified among the widest margins"
    )


def _describe_share_not_excluded(all_ranks: Sequence[Identification]) -> str:
    """What a number of identified samples does not exclude, in words."""
    identified, n = sum(r.rank_1 for r in all_ranks), sum(r.n for r in all_ranks)
    share = 100 * share_not_excluded(identified, n)
    return (
        f"With {identified} of {n} identified, an attack that identifies up to "
        f"{format_percent(share)} % of deleted samples cannot be excluded (95 %)."
    )


def add_own_p(ranks: Identification | None) -> Identification | None:
    """With each sample's own p-value."""
    if ranks is None or not ranks.ranks:
        return ranks
    places = [place for place, rank in enumerate(ranks.ranks) if rank is not None]
    own = compute_own_p(
        [ranks.ranks[place] or 1 for place in places],
        [ranks.decoy_counts[place] for place in places],
        [ranks.margins[place] or 0.0 for place in places] if ranks.margins else [],
    )
    by_place = dict(zip(places, own, strict=True))
    return ranks.model_copy(
        update={"own_p": [by_place.get(place) for place in range(len(ranks.ranks))]}
    )


KIND = ReportedImages()
