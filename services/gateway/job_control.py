"""What users tell jobs and audits to do. The API and the console call the same functions, so that
workers are woken whoever asks."""

from __future__ import annotations

from services.gateway.deps import current_gateway, current_store
from shared.jobs.audit_retry import AuditRetry
from shared.jobs.bulk_cancel import BulkCancel
from shared.jobs.filters import JobFilter
from shared.jobs.states import State


def cancel_job(job_id: str) -> None:
    """Cancel a job. Raises NotFound."""
    current_gateway().deps.wakeup_sender.notify(current_store().cancel_job(job_id))


def retry_job(job_id: str) -> None:
    """Run a failed or cancelled job again. Raises NotFound, Conflict."""
    current_gateway().deps.wakeup_sender.notify(current_store().retry_job(job_id))


def resume_job(job_id: str) -> None:
    """Let a paused job be claimed. Raises NotFound, Conflict."""
    current_gateway().deps.wakeup_sender.notify(current_store().resume_job(job_id))


def retry_audit(audit_id: str) -> AuditRetry:
    """Run the failed and cancelled jobs of an audit again. Raises NotFound, Conflict."""
    done = current_store().retry_audit(audit_id)
    current_gateway().deps.wakeup_sender.notify(done.stages)
    return done


def count_selected(filters: JobFilter) -> BulkCancel:
    """What `cancel_selected` would come to; `filters` of the answer selects no job that comes
    later."""
    bounded = current_store().bound_by_now(filters)
    counts = current_store().count_cancellable(bounded)
    running = counts.pop(State.RUNNING, 0)
    return BulkCancel(bounded, sum(counts.values()), running, 0, frozenset())


def cancel_selected(filters: JobFilter) -> BulkCancel:
    """Cancel the jobs that a filter selects and that have not ended, or a part of them."""
    done = current_store().cancel_jobs(current_store().bound_by_now(filters))
    current_gateway().deps.wakeup_sender.notify(done.stages)
    return done
