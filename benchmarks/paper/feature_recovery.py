"""Feature recovery by each estimate of the forgotten gradient, as a table and as a curve."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.paper.audit_specs import METHODS
from benchmarks.paper.claim import format_interval
from benchmarks.paper.evidence import Evidence, PooledEvaluations
from benchmarks.paper.figures import DataPoint, Series
from benchmarks.paper.gallery import Gallery

# estimate -> (kind of unlearning, models from which the gradient is estimated)
ESTIMATES = {
    "exact, with base, N and k": ("exact", "base"),
    "exact, from the pair alone": ("exact", "pair"),
    "approximate, from the pair": ("approximate", "pair"),
}
DEFAULT_SETTING = "N = 32"  # the setting that other questions start from


def pool_recovery(evidence: Evidence, estimate: str, setting: str) -> PooledEvaluations:
    """Feature recovery by one estimate in one setting, such as `N = 32`."""
    unlearning, gradient_from = ESTIMATES[estimate]
    return evidence.pool(
        f"{unlearning}, {setting}",
        METHODS[unlearning],
        "feature_recovery",
        gradient_from=gradient_from,
    )


def render_table(evidence: Evidence, settings: Mapping[str, str]) -> str:
    """A table with one row per setting and estimate; `settings` by their labels."""
    rows = [
        "| setting | estimate | n | PSNR, dB | baseline | gain | identified |",
        "|---|---|---|---|---|---|---|",
    ]
    for label, setting in settings.items():
        rows += [
            f"| {label} | {estimate} | {_format_cells(pool_recovery(evidence, estimate, setting))} |"
            for estimate in ESTIMATES
        ]
    return "\n".join(rows)


def _format_cells(pooled: PooledEvaluations) -> str:
    score, identification = pooled.pool_score("psnr"), pooled.pool_identified()
    if not score or not identification:
        return "- | no results | - | - | -"
    return (
        f"{score.n} | {score.mean:.1f} {format_interval(score.interval, 1)}, median {score.median:.1f} | "
        f"{score.baseline:.1f} {score.baseline_name} | {score.gain:+.1f} {format_interval(score.gain_interval, 1)} | "
        f"{identification.count} of {identification.n} {format_interval(identification.interval, 2)}"
    )


def describe_accuracies(evidence: Evidence, settings: Mapping[str, str]) -> str:
    """Test accuracy of the models before unlearning."""
    accuracies_by_setting = []
    for shown, setting in settings.items():
        utility = evidence.average_utility(f"approximate, {setting}", METHODS["approximate"])
        if utility:
            accuracies_by_setting.append(f"{shown} {utility['original_test_accuracy']:.3f}")
    return f"Test accuracy of the original models: {'; '.join(accuracies_by_setting) or 'not measured'}."


def draw_curve(
    evidence: Evidence, settings: Mapping[str, str], gallery: Gallery, name: str, x_label: str
) -> str:
    """A chart of the identified shares over the settings."""
    series, chance = [], None
    for estimate in ESTIMATES:
        identified = {
            shown: pool_recovery(evidence, estimate, setting).pool_identified()
            for shown, setting in settings.items()
        }
        series.append(
            Series(
                estimate,
                [DataPoint(shown, t.share, *t.interval) for shown, t in identified.items() if t],
            )
        )
        chance = next((t.chance for t in identified.values() if t), chance)
    return gallery.draw_shares(
        name, f"share of deleted images that are identified, over {x_label}", series, chance
    )
