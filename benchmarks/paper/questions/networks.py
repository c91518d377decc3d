"""Do plain convolutional networks leak more than residual ones?"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.paper.claim import Claim, more
from benchmarks.paper.evidence import Evidence
from benchmarks.paper.recovery import ESTIMATES, USUAL, accuracies, recovery, table


def claim(evidence: Evidence) -> Claim:
    residual = evidence.scale.residual
    found = {
        estimate: [recovery(evidence, estimate, setting).score("psnr") for setting in (USUAL, residual)]
        for estimate in ESTIMATES
    }
    return Claim(
        f"ConvNet against {residual}",
        "Plain convolutional networks leak more than residual ones.",
        "The difference in PSNR, paired by deletion: supported where its whole 95 % interval is above 0.",
        tuple(more(estimate, *scores) for estimate, scores in found.items()),
        lambda _: _shown(evidence),
    )


def _shown(evidence: Evidence) -> Iterator[str]:
    settings = {f"ConvNet {evidence.scale.width}": USUAL, evidence.scale.residual: evidence.scale.residual}
    yield table(evidence, settings)
    yield accuracies(evidence, settings)
