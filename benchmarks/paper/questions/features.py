"""Does unlearning leak the features of what was forgotten?"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.paper.claim import Claim, decided, identified
from benchmarks.paper.evidence import ALPHA, Evidence
from benchmarks.paper.gallery import Gallery
from benchmarks.paper.recovery import ESTIMATES, USUAL, recovery

SHOWN = 8


def claim(evidence: Evidence) -> Claim:
    found = {estimate: recovery(evidence, estimate, USUAL).identified() for estimate in ESTIMATES}
    decoys = next((told.decoys for told in found.values() if told), 100)
    return Claim(
        "Does unlearning leak the features of what was forgotten?",
        "A server that holds the weights before and after reads the deleted image back, after exact as after "
        "approximate unlearning.",
        f"Supported where more deleted images are told from {decoys} decoys of their class than chance "
        f"explains (exact binomial test, p < {ALPHA}). N = 32, k = 1.",
        tuple(decided(estimate, told, lambda t: t.leaks, identified) for estimate, told in found.items()),
        lambda gallery: _pictures(evidence, gallery),
    )


def _pictures(evidence: Evidence, gallery: Gallery) -> Iterator[str]:
    for estimate, images in evidence.pictures.items():
        yield f"{estimate[0].upper()}{estimate[1:]}: the truth, what came back, the mean of its class."
        rows = [images[kind][:SHOWN] for kind in ("truth", "reconstruction", "class_mean")]
        yield gallery.strip(f"{ESTIMATES[estimate][0]}-unlearning", rows)
