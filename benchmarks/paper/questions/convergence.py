"""Does an early base leak more than a converged one?"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.paper.audits import Scale
from benchmarks.paper.claim import Claim, more
from benchmarks.paper.evidence import Evidence
from benchmarks.paper.gallery import Gallery
from benchmarks.paper.recovery import ESTIMATES, USUAL, accuracies, curve, recovery, table


def claim(evidence: Evidence) -> Claim:
    early, late = min(evidence.scale.epochs), max(evidence.scale.epochs)
    found = {
        estimate: [recovery(evidence, estimate, _setting(evidence.scale, e)).score("psnr") for e in (early, late)]
        for estimate in ESTIMATES
    }
    return Claim(
        "Early against converged base",
        "The better the base model has converged, the less the deletion leaks.",
        f"PSNR from a base of {early} against {late} epochs of pretraining, paired by deletion: supported where the "
        "whole 95 % interval of the difference is above 0.",
        tuple(more(estimate, *scores) for estimate, scores in found.items()),
        lambda gallery: _shown(evidence, gallery),
    )


def _setting(scale: Scale, epochs: int) -> str:
    """The setting of audits whose base was pretrained for so many epochs."""
    return USUAL if epochs == scale.base else f"{epochs} epochs"


def _shown(evidence: Evidence, gallery: Gallery) -> Iterator[str]:
    settings = {f"{e} epochs": _setting(evidence.scale, e) for e in evidence.scale.epochs}
    yield table(evidence, settings)
    yield accuracies(evidence, settings)
    yield curve(evidence, settings, gallery, "convergence", "epochs of pretraining")
