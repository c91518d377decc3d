"""Do plain convolutional networks leak more than residual ones?"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.paper.claim import Claim, compare_leaks
from benchmarks.paper.evidence import Evidence
from benchmarks.paper.feature_recovery import (
    DEFAULT_SETTING,
    ESTIMATES,
    describe_accuracies,
    pool_recovery,
    render_table,
)


def build_claim(evidence: Evidence) -> Claim:
    residual = evidence.scale.residual_model
    scores_by_estimate = {
        estimate: [
            pool_recovery(evidence, estimate, setting).pool_score("psnr")
            for setting in (DEFAULT_SETTING, residual)
        ]
        for estimate in ESTIMATES
    }
    return Claim(
        f"ConvNet against {residual}",
        "Plain convolutional networks leak more than residual ones.",
        "The difference in PSNR, paired by deletion: supported if its whole 95 % interval is above 0.",
        tuple(compare_leaks(estimate, *scores) for estimate, scores in scores_by_estimate.items()),
        lambda _: _render(evidence),
    )


def _render(evidence: Evidence) -> Iterator[str]:
    settings = {
        f"ConvNet {evidence.scale.width}": DEFAULT_SETTING,
        evidence.scale.residual_model: evidence.scale.residual_model,
    }
    yield render_table(evidence, settings)
    yield describe_accuracies(evidence, settings)
