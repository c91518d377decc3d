"""Shadow deletions, as far as a plan must know them: what can be repeated, and what it costs. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from shared.forget_sets import spelt_out
from shared.roles import Role

LEAST = 199  # shadow deletions: with fewer no p-value lies far enough below 0.05
# What is made anew for a shadow deletion, or is the same for all. A method that needs more cannot be repeated.
MADE = frozenset(
    {Role.ORIGINAL, Role.UNLEARNED, Role.BASE, Role.RECIPE, Role.COUNTS, Role.PROBES, Role.DEFENSE, Role.PUBLIC}
)


def unrepeatable(needs: Iterable[str]) -> str | None:
    """The first role that a method needs and shadow deletions are not made with."""
    return min({*needs} - MADE, default=None)


def quoted(params: Mapping[str, Any], unlearn: Mapping[str, Any], n: int) -> str:
    """A sentence: what a job of the stage `shadow` does, beside the job of the stage `unlearn` that it repeats."""
    own, made = spelt_out(unlearn), params["shadows"]
    tested = len(own[1]) if own else unlearn["deletions"]
    trainings = -(-made // tested)
    return f"shadow (p-values): {made:,} deletions made again and at most {trainings:,} trainings of {n:,} samples"
