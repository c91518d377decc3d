"""Does unlearning leak the class of one sample?"""

from __future__ import annotations

from benchmarks.paper.claim import Claim, decided, right
from benchmarks.paper.evidence import Evidence
from benchmarks.paper.naming import ONE, cases, named


def claim(evidence: Evidence) -> Claim:
    return Claim(
        "Does unlearning leak the class of one sample?",
        "A user of the prediction API tells the class of the deleted sample from answers before and after.",
        "One sample a deletion: supported where the Wilson interval of the share of right answers is above the "
        "strongest null (guessing, or the same answers for other deletions).",
        tuple(
            decided(
                case.name,
                named(evidence, case, ONE),
                lambda score: score.leaks,
                lambda score: f"{right(score)}, null {score.null:.2f} ({score.null_name})",
            )
            for case in cases(evidence.scale)
        ),
    )
