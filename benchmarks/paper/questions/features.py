"""Does unlearning leak the features of what was forgotten?"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.paper.claim import Claim, decide, format_identified
from benchmarks.paper.evidence import ALPHA, Evidence
from benchmarks.paper.feature_recovery import DEFAULT_SETTING, ESTIMATES, pool_recovery
from benchmarks.paper.gallery import Gallery

MAX_PICTURES = 8


def build_claim(evidence: Evidence) -> Claim:
    identified = {
        estimate: pool_recovery(evidence, estimate, DEFAULT_SETTING).pool_identified()
        for estimate in ESTIMATES
    }
    decoys = next((pooled.decoys for pooled in identified.values() if pooled), 100)
    return Claim(
        "Does unlearning leak the features of what was forgotten?",
        "A server that has the weights from before and after can reconstruct the deleted image, after exact and after "
        "approximate unlearning.",
        f"Supported if more deleted images are identified among {decoys} decoys of their class than chance "
        f"explains (exact binomial test, p < {ALPHA}). N = 32, k = 1.",
        tuple(
            decide(estimate, pooled, lambda t: t.leaks, format_identified)
            for estimate, pooled in identified.items()
        ),
        lambda gallery: _render_pictures(evidence, gallery),
    )


def _render_pictures(evidence: Evidence, gallery: Gallery) -> Iterator[str]:
    for estimate, images in evidence.pictures.items():
        yield f"{estimate[0].upper()}{estimate[1:]}: the deleted image, its reconstruction, the mean of its class."
        rows = [images[kind][:MAX_PICTURES] for kind in ("truth", "reconstruction", "class_mean")]
        yield gallery.draw_images(f"{ESTIMATES[estimate][0]}-unlearning", rows)
