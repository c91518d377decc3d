"""Shadow deletions, as far as planning needs them: what can be repeated, and at what cost. No
torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from shared.forget_sets import list_forget_sets
from shared.roles import Role

MIN_SHADOWS = 199  # shadow deletions: with fewer no p-value is far enough below 0.05
MIN_RETAINED_SHADOWS = 19  # of a model that was brought: with fewer no p-value reaches 0.05
# Roles that are recreated for each shadow deletion, or shared by all. Methods that need others
# cannot be repeated.
REPEATABLE_ROLES = frozenset(
    {
        Role.ORIGINAL,
        Role.UNLEARNED,
        Role.BASE,
        Role.RECIPE,
        Role.DELETION_SIZES,
        Role.PROBES,
        Role.DEFENSE,
        Role.PUBLIC,
    }
)


def find_unrepeatable_role(needs: Iterable[str]) -> str | None:
    """The first role that a method needs and shadow deletions do not have."""
    return min({*needs} - REPEATABLE_ROLES, default=None)


def describe_retained_shadow_cost(params: Mapping[str, Any]) -> str:
    """One line on the work of a `shadow` job on a model that was brought."""
    return f"shadow (p-values): at most {params['shadows']:,} shadow deletions of retained samples"


def describe_shadow_cost(
    params: Mapping[str, Any], unlearn: Mapping[str, Any], training_size: int
) -> str:
    """One line on the work of a `shadow` job, given the `unlearn` job that it repeats."""
    indices, shadows = list_forget_sets(unlearn), params["shadows"]
    tested = len(indices[1]) if indices else unlearn["deletions"]
    trainings = -(-shadows // tested)
    return (
        f"shadow (p-values): {shadows:,} shadow deletions and at most {trainings:,} trainings on "
        f"{training_size:,} samples"
    )
