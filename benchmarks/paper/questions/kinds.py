"""Which kind of unlearning leaks more, exact or approximate?"""

from __future__ import annotations

from benchmarks.paper.claim import Claim, more
from benchmarks.paper.evidence import Evidence
from benchmarks.paper.recovery import USUAL, recovery


def claim(evidence: Evidence) -> Claim:
    exact = recovery(evidence, "exact, with base, N and k", USUAL).score("psnr")
    approximate = recovery(evidence, "approximate, from the pair", USUAL).score("psnr")
    return Claim(
        "Which kind of unlearning leaks more?",
        "Approximate unlearning leaks more than exact unlearning.",
        "The difference in PSNR, paired by deletion: supported where its whole 95 % interval is above 0.",
        (more("approximate over exact, N = 32", approximate, exact),),
    )
