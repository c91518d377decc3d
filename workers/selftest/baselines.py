"""Whoever knows nothing of what was deleted is called a leak no more often than chance allows."""

from __future__ import annotations

from workers.selftest._case import Case
from workers.selftest._world import decide_reconstruction, samples

DRAWS, DELETIONS = 100, 16


def _clear_of_chance() -> float:
    """Of 100 attackers who hand back other images of the right class, compared with a baseline that
    does the same: those whose gain or rank is clear of chance. Intervals of 95 % miss on this side
    in 2.5 of 100, the bootstrap's of 16 in more.
    """
    public, clear = samples("public", 400), 0
    for draw in range(DRAWS):
        truth, back, other = (
            samples(f"{what} {draw}", DELETIONS) for what in ("truth", "handed back", "other")
        )
        found, evaluation = decide_reconstruction(
            back.images.unsqueeze(1), truth, public, {"other": other.images.unsqueeze(1)}
        )
        gain = evaluation.metrics["psnr"].gain
        assert gain is not None
        clear += found.outcome == "leak" or (gain.low is not None and gain.low > 0)
    return float(clear)


CASES = (
    Case(
        "baseline_against_baseline",
        f"of {DRAWS} attackers who know the class alone, no more than chance allows look like a leak",
        _clear_of_chance,
        low=0,
        high=9,
        unit="of 100",
    ),
)
