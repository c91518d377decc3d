"""Feature recovery by every estimate of what was forgotten, as rows of a table and as a curve."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.paper.audits import METHODS
from benchmarks.paper.claim import within
from benchmarks.paper.evidence import Evidence, Pooled
from benchmarks.paper.figures import Mark, Series
from benchmarks.paper.gallery import Gallery

# Who attacks which unlearning: the name of the estimate, and what is known for it.
ESTIMATES = {
    "exact, with base, N and k": ("exact", "base"),
    "exact, from the pair alone": ("exact", "pair"),
    "approximate, from the pair": ("approximate", "pair"),
}
USUAL = "N = 32"  # the setting that other questions start from


def recovery(evidence: Evidence, estimate: str, setting: str) -> Pooled:
    """Feature recovery by one estimate in one setting, such as `N = 32`."""
    unlearning, gradient_from = ESTIMATES[estimate]
    return evidence.of(f"{unlearning}, {setting}", METHODS[unlearning], "feature_recovery", gradient_from=gradient_from)


def table(evidence: Evidence, settings: Mapping[str, str]) -> str:
    """Settings by the name that they are shown by."""
    rows = ["| setting | estimate | n | PSNR, dB | null | gain | identified |", "|---|---|---|---|---|---|---|"]
    for shown, setting in settings.items():
        rows += [
            f"| {shown} | {estimate} | {_cells(recovery(evidence, estimate, setting))} |" for estimate in ESTIMATES
        ]
    return "\n".join(rows)


def _cells(pooled: Pooled) -> str:
    score, told = pooled.score("psnr"), pooled.identified()
    if not score or not told:
        return "- | no results | - | - | -"
    return (
        f"{score.n} | {score.mean:.1f} {within(score.interval, 1)}, median {score.median:.1f} | "
        f"{score.null:.1f} {score.null_name} | {score.gain:+.1f} {within(score.gain_interval, 1)} | "
        f"{told.count} of {told.n} {within(told.interval, 2)}"
    )


def accuracies(evidence: Evidence, settings: Mapping[str, str]) -> str:
    """Of the models before unlearning."""
    told = []
    for shown, setting in settings.items():
        utility = evidence.utility(f"approximate, {setting}", METHODS["approximate"])
        if utility:
            told.append(f"{shown} {utility['original_test_accuracy']:.3f}")
    return f"Test accuracy of the original models: {'; '.join(told) or 'not measured'}."


def curve(evidence: Evidence, settings: Mapping[str, str], gallery: Gallery, name: str, over: str) -> str:
    """Shares that are identified, over the settings."""
    series, chance = [], None
    for estimate in ESTIMATES:
        told = {shown: recovery(evidence, estimate, setting).identified() for shown, setting in settings.items()}
        series.append(Series(estimate, [Mark(shown, t.share, *t.interval) for shown, t in told.items() if t]))
        chance = next((t.chance for t in told.values() if t), chance)
    return gallery.shares(name, f"share of deleted images that are identified, over {over}", series, chance)
