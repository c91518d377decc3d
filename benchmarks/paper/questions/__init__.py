"""The paper's questions in its order, one file each.

The rules by which its claims are decided were fixed before the first run.
"""

from __future__ import annotations

from benchmarks.paper.claim import Claim
from benchmarks.paper.evidence import Evidence
from benchmarks.paper.questions import convergence, defenses, features, kinds, labels, networks, shares, sizes


def claims(evidence: Evidence) -> list[Claim]:
    """All claims, each decided case by case."""
    return [q.claim(evidence) for q in (features, kinds, sizes, networks, convergence, labels, shares, defenses)]
