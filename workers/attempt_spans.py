"""An attempt as spans of the trace of its audit: how long its job was queued, and how long it ran."""

from __future__ import annotations

from shared.jobs.records import Claim
from shared.tracing import Attributes, record_span


def record_attempt(claim: Claim, end: str, seconds: float, worker: str) -> None:
    """Record an attempt that has ended.

    Args:
        end: how, as the log has it; what follows the first word may be of the user's.
        seconds: how long it took.
    """
    job = claim.job
    subject = claim.audit or job.id
    name = f"{job.stage} {job.method}" if job.method else job.stage
    outcome = end.partition(":")[0]
    attributes: Attributes = {
        **claim.log_fields, "attempt": job.attempt, "worker": worker, "outcome": outcome,
    }  # fmt: skip
    started_at = job.started_at or job.created_at
    if job.queued_at is not None and job.queued_at < started_at:
        record_span(f"queue {job.stage}", subject, job.queued_at, started_at, attributes)
    error = outcome if outcome == "failed" else None
    record_span(name, subject, started_at, started_at + seconds, attributes, error=error)
