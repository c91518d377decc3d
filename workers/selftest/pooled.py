"""Ranks of several seeds together: what is faint in each shows, and nothing stays nothing."""

from __future__ import annotations

from shared.evaluation import Identification
from shared.ml.context import make_generator
from shared.ml.decoys import DecoySource
from shared.ml.findings.images import identify_truths
from shared.reporting.evidence import TAIL
from shared.reporting.kinds.images import KIND
from shared.reporting.reported_kind import Measured
from workers.selftest._case import Case
from workers.selftest._world import draw_samples

SEEDS, DELETIONS, DECOYS, DRAWS = 5, 8, 50, 30
FAINT = 0.1  # share of the truth in a picture that is otherwise another image of its class


def _compute_pooled_p(draw: int, share: float) -> float:
    """P-value of five seeds of pictures that hold this share of the truth."""
    public, rows = draw_samples("public", 400), []
    source = DecoySource(public, public.pick([]))
    for seed in range(SEEDS):
        truth, other = (
            draw_samples(f"{what} {draw} {seed}", DELETIONS) for what in ("truth", "handed back")
        )
        images = share * truth.images + (1 - share) * other.images
        ranks = identify_truths(
            images.unsqueeze(1),
            truth.images.unsqueeze(1),
            truth.labels.unsqueeze(1),
            source,
            DECOYS,
            make_generator(seed, "decoys"),
        )
        rows.append(Measured({}, Identification.model_validate(ranks), None))
    p = KIND.compute_p(rows)
    assert p is not None
    return p


def _count_apparent_leaks() -> float:
    return float(sum(_compute_pooled_p(draw, 0.0) <= TAIL for draw in range(DRAWS)))


CASES = (
    Case(
        "pooled_ranks",
        f"pictures that contain {100 * FAINT:.0f} % of the truth lead to lower ranks among decoys "
        "than chance explains over five seeds (p-value)",
        lambda: _compute_pooled_p(0, FAINT),
        low=None,
        high=1e-3,
        unit="p",
    ),
    Case(
        "pooled_ranks_of_nothing",
        f"of {DRAWS} attackers that know only the class, no more look like a leak over five seeds "
        "than chance allows",
        _count_apparent_leaks,
        low=0,
        high=4,
        unit=f"of {DRAWS}",
    ),
)
