"""How does the leak fall with the size of the training set?"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from benchmarks.paper.claim import NOT_TESTABLE, CaseResult, Claim, decide_verdict, format_p
from benchmarks.paper.evidence import ALPHA, Evidence, compute_trend
from benchmarks.paper.feature_recovery import ESTIMATES, draw_curve, pool_recovery, render_table
from benchmarks.paper.gallery import Gallery


def build_claim(evidence: Evidence) -> Claim:
    sizes = ", ".join(map(str, evidence.scale.training_sizes))
    return Claim(
        "How does the leak fall with the size of the training set?",
        "The more samples the model was trained on, the less the deletion of one of them leaks.",
        f"Supported if the gain over the baseline falls with N (Spearman, p < {ALPHA}), for N of {sizes}.",
        tuple(_decide_fall(evidence, estimate) for estimate in ESTIMATES),
        lambda gallery: _render(evidence, gallery),
    )


def _decide_fall(evidence: Evidence, estimate: str) -> CaseResult:
    scores = {
        n: pool_recovery(evidence, estimate, f"N = {n}").pool_score("psnr")
        for n in evidence.scale.training_sizes
    }
    groups = [(float(n), score.gains) for n, score in scores.items() if score]
    if len(groups) < 2:
        return CaseResult(estimate, NOT_TESTABLE, "no results")
    rho, p = compute_trend(groups)
    means = ", ".join(f"{fmean(values):+.1f} dB at N = {n:g}" for n, values in groups)
    explanation = f"rank correlation with N {rho:+.2f}, p {format_p(p)}; gain {means}"
    return CaseResult(estimate, decide_verdict(rho < 0 and p < ALPHA), explanation)


def _render(evidence: Evidence, gallery: Gallery) -> Iterator[str]:
    settings = {f"N = {n}": f"N = {n}" for n in evidence.scale.training_sizes}
    yield render_table(evidence, settings)
    yield draw_curve(evidence, settings, gallery, "size", "size of the training set")
