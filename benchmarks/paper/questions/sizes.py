"""How does the leak fall with the size of the training set?"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from benchmarks.paper.claim import ABSENT, Claim, Finding, p_value, verdict
from benchmarks.paper.evidence import ALPHA, Evidence, trend
from benchmarks.paper.gallery import Gallery
from benchmarks.paper.recovery import ESTIMATES, curve, recovery, table


def claim(evidence: Evidence) -> Claim:
    sizes = ", ".join(map(str, evidence.scale.sizes))
    return Claim(
        "How does the leak fall with the size of the training set?",
        "The more samples the model was trained on, the less the deletion of one of them leaks.",
        f"Supported where the gain over the null falls with N (Spearman, p < {ALPHA}), N of {sizes}.",
        tuple(_falls(evidence, estimate) for estimate in ESTIMATES),
        lambda gallery: _shown(evidence, gallery),
    )


def _falls(evidence: Evidence, estimate: str) -> Finding:
    scored = {n: recovery(evidence, estimate, f"N = {n}").score("psnr") for n in evidence.scale.sizes}
    groups = [(float(n), score.gains) for n, score in scored.items() if score]
    if len(groups) < 2:
        return Finding(estimate, ABSENT, "no results")
    rho, p = trend(groups)
    means = ", ".join(f"{fmean(values):+.1f} dB at N = {n:g}" for n, values in groups)
    why = f"rank correlation with N {rho:+.2f}, p {p_value(p)}; gain {means}"
    return Finding(estimate, verdict(rho < 0 and p < ALPHA), why)


def _shown(evidence: Evidence, gallery: Gallery) -> Iterator[str]:
    settings = {f"N = {n}": f"N = {n}" for n in evidence.scale.sizes}
    yield table(evidence, settings)
    yield curve(evidence, settings, gallery, "size", "size of the training set")
