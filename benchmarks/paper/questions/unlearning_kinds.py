"""Which kind of unlearning leaks more, exact or approximate?"""

from __future__ import annotations

from benchmarks.paper.claim import Claim, compare_leaks
from benchmarks.paper.evidence import Evidence
from benchmarks.paper.feature_recovery import DEFAULT_SETTING, pool_recovery


def build_claim(evidence: Evidence) -> Claim:
    exact = pool_recovery(evidence, "exact, with base, N and k", DEFAULT_SETTING).pool_score("psnr")
    approximate = pool_recovery(evidence, "approximate, from the pair", DEFAULT_SETTING).pool_score(
        "psnr"
    )
    return Claim(
        "Which kind of unlearning leaks more?",
        "Approximate unlearning leaks more than exact unlearning.",
        "The difference in PSNR, paired by deletion: supported if its whole 95 % interval is above 0.",
        (compare_leaks("approximate over exact, N = 32", approximate, exact),),
    )
