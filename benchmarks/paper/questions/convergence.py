"""Does an early base model leak more than a converged one?"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.paper.audit_specs import Scale
from benchmarks.paper.claim import Claim, compare_leaks
from benchmarks.paper.evidence import Evidence
from benchmarks.paper.feature_recovery import (
    DEFAULT_SETTING,
    ESTIMATES,
    describe_accuracies,
    draw_curve,
    pool_recovery,
    render_table,
)
from benchmarks.paper.gallery import Gallery


def build_claim(evidence: Evidence) -> Claim:
    early, late = min(evidence.scale.epochs), max(evidence.scale.epochs)
    scores_by_estimate = {
        estimate: [
            pool_recovery(evidence, estimate, _name_setting(evidence.scale, e)).pool_score("psnr")
            for e in (early, late)
        ]
        for estimate in ESTIMATES
    }
    return Claim(
        "Does an early base model leak more than a converged one?",
        "The better the base model has converged, the less a deletion leaks.",
        f"PSNR from a base of {early} against {late} epochs of pretraining, paired by deletion: supported if the "
        "whole 95 % interval of the difference is above 0.",
        tuple(compare_leaks(estimate, *scores) for estimate, scores in scores_by_estimate.items()),
        lambda gallery: _render(evidence, gallery),
    )


def _name_setting(scale: Scale, epochs: int) -> str:
    """The setting of the audits whose base model was pretrained for this number of epochs."""
    return DEFAULT_SETTING if epochs == scale.base_epochs else f"{epochs} epochs"


def _render(evidence: Evidence, gallery: Gallery) -> Iterator[str]:
    settings = {f"{e} epochs": _name_setting(evidence.scale, e) for e in evidence.scale.epochs}
    yield render_table(evidence, settings)
    yield describe_accuracies(evidence, settings)
    yield draw_curve(evidence, settings, gallery, "convergence", "epochs of pretraining")
