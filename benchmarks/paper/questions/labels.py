"""Does unlearning leak the class of one sample?"""

from __future__ import annotations

from benchmarks.paper.claim import Claim, decide, format_hits
from benchmarks.paper.evidence import Evidence
from benchmarks.paper.label_inference import ONE_SAMPLE, list_cases, score_labels


def build_claim(evidence: Evidence) -> Claim:
    return Claim(
        "Does unlearning leak the class of one sample?",
        "A user of the prediction API can infer the class of the deleted sample from predictions before and after.",
        "One sample per deletion: supported if the Wilson interval of the share of correct labels is above the "
        "strongest baseline (guessing, or the same labels assigned to other deletions).",
        tuple(
            decide(
                case.name,
                score_labels(evidence, case, ONE_SAMPLE),
                lambda score: score.leaks,
                lambda score: (
                    f"{format_hits(score)}, baseline {score.baseline:.2f} ({score.baseline_name})"
                ),
            )
            for case in list_cases(evidence.scale)
        ),
    )
