"""The paper's questions in its order, one file each.

The rules by which its claims are decided were fixed before the first run.
"""

from __future__ import annotations

from benchmarks.paper.claim import Claim
from benchmarks.paper.evidence import Evidence
from benchmarks.paper.questions import (
    class_shares,
    convergence,
    defenses,
    features,
    labels,
    networks,
    training_sizes,
    unlearning_kinds,
)


def decide_claims(evidence: Evidence) -> list[Claim]:
    """All claims, each decided case by case."""
    questions = (
        features,
        unlearning_kinds,
        training_sizes,
        networks,
        convergence,
        labels,
        class_shares,
        defenses,
    )
    return [question.build_claim(evidence) for question in questions]
