"""How many jobs are in each state, cached for clients that poll.

Counting goes through all jobs. While that is cheap, every caller gets a new count. When it is slow,
callers get the latest count and a new one is made in the background, so that polling costs the same
with any number of jobs.
"""

from __future__ import annotations

from services.gateway.snapshot_cache import SnapshotCache, SnapshotCaches
from shared.jobs import worker_registry
from shared.jobs.database import Database

Counts = dict[str, dict[str, int]]
QueueCounts = SnapshotCaches[str | None, Counts]  # of each tenant, and of all tenants (None)

CHEAP_S = 0.01  # a count that takes less is made for every caller
MAX_AGE_S = 5.0  # an older count is never returned


def make_queue_counts(db: Database) -> QueueCounts:
    """The counts of a job store by stage and state."""
    return SnapshotCaches(
        lambda tenant: SnapshotCache(
            "the numbers of jobs",
            lambda: worker_registry.count_jobs_by_stage(db, tenant),
            interval_s=0.0,
            max_age_s=MAX_AGE_S,
            wait_s=0.0,
            cheap_s=CHEAP_S,
        )
    )
