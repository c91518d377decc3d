"""The place of a queued job among those of its tenant: a stored number, so that an index orders it.

Waiting ages: a job's rank is the time at which it was queued, less `STEP_S` for each point of
priority. One point is worth as much as having waited a minute longer, so what waits overtakes in
the end whatever comes in. Priority says nothing between tenants: those take turns
(`shared.jobs.dispatch`).
"""

from __future__ import annotations

from typing import Any

PRIORITY_STEP_S = 60.0  # seconds of waiting that one point of priority is worth


def compute_rank(queued_at: Any, priority: Any) -> Any:
    """The rank of a job of this priority that was queued then (seconds since 1970), both numbers or
    expressions of SQL; lower goes first."""
    return queued_at - priority * PRIORITY_STEP_S
