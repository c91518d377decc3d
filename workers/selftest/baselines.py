"""Attackers without information count as leaks no more often than chance allows."""

from __future__ import annotations

from workers.selftest._case import Case
from workers.selftest._world import decide_reconstruction, draw_samples

DRAWS, DELETIONS = 100, 16


def _count_apparent_leaks() -> float:
    """Of 100 attackers that return other images of the correct class, compared with a baseline that
    does the same, count those whose gain or rank is significant. 95 % intervals miss on this side
    in 2.5 of 100, the bootstrap's of 16 samples in more."""
    public, apparent_leaks = draw_samples("public", 400), 0
    for draw in range(DRAWS):
        truth, reconstruction, other = (
            draw_samples(f"{what} {draw}", DELETIONS) for what in ("truth", "handed back", "other")
        )
        finding, evaluation = decide_reconstruction(
            reconstruction.images.unsqueeze(1), truth, public, {"other": other.images.unsqueeze(1)}
        )
        gain = evaluation.metrics["psnr"].gain
        assert gain is not None
        apparent_leaks += finding.outcome == "leak" or (gain.low is not None and gain.low > 0)
    return float(apparent_leaks)


CASES = (
    Case(
        "baseline_against_baseline",
        f"of {DRAWS} attackers that know only the class, no more look like a leak than chance "
        "allows",
        _count_apparent_leaks,
        low=0,
        high=9,
        unit="of 100",
    ),
)
