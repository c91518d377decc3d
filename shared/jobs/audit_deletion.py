"""Deletion of audits, with the jobs and artifacts that nothing else needs.

One transaction hides the audit from everybody and notes in `erasures` that traces are left. Its jobs
are then unlinked in batches, those that were made last first; what nothing refers to any more is
removed with it (`shared.jobs.removal`). A job that another audit has, that was posted by hand, or of
which either is made, stays. Whoever comes next goes on, the caller or a reconciler.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, delete, exists, func, or_, select, update

from shared.artifacts import ArtifactStore
from shared.errors import Conflict, NotFound
from shared.failpoints import failpoint
from shared.jobs.access_log import hide_deleted
from shared.jobs.bulk_delete import delete_rows
from shared.jobs.bulk_insert import insert_rows
from shared.jobs.control import cancel_audit
from shared.jobs.database import Database
from shared.jobs.erasure import Erasure, finish_soon
from shared.jobs.removal import (
    Removed,
    group_by_events,
    note_erasure,
    remove_unreferenced_jobs,
)
from shared.jobs.states import LIVE, Stop
from shared.jobs.tables import (
    IS_DELETING,
    artifacts,
    audit_jobs,
    audits,
    idempotency,
    job_artifacts,
    jobs,
)
from shared.jobs.webhooks import forget_deleted

BATCH = 200  # jobs that one transaction unlinks, or fewer that have many events
SHOWN = 5  # live jobs that a message names
DELETION_S = 10.0  # seconds after which the reconciler is left to remove the rest


@dataclass(frozen=True)
class _Step:
    """What one transaction of a deletion has done."""

    removed: Removed
    unlinked: int
    is_over: bool  # nothing of the audit is left


@dataclass(frozen=True)
class DeletionEstimate:
    """What the deletion of an audit comes to.

    jobs: jobs of the audit.
    live: those of them that have not ended.
    shared: those of them that stay, as another audit has them or they were posted by hand.
    artifacts, size: what the others have made, and its bytes. Some of it stays if something else
        needs it.
    """

    jobs: int
    live: int
    shared: int
    artifacts: int
    size: int


def estimate_deletion(db: Database, tenant: str, audit_id: str) -> DeletionEstimate:
    """What would go with an audit. Raises NotFound: no such audit of this tenant."""
    others = audit_jobs.alias("others")
    is_shared = or_(
        jobs.c.pinned,
        exists().where(others.c.job == jobs.c.id, others.c.audit != audit_id, ~others.c.detached),
    )
    links = audit_jobs.join(jobs, jobs.c.id == audit_jobs.c.job)
    mine = (
        select(jobs.c.id)
        .select_from(links)
        .where(audit_jobs.c.audit == audit_id, jobs.c.tenant == tenant)
    )
    counted = select(
        func.count(),
        func.count().filter(jobs.c.state.in_(sorted(LIVE))),
        func.count().filter(is_shared),
    ).where(jobs.c.id.in_(mine))
    their_artifacts = (
        select(artifacts.c.sha256, artifacts.c.size)
        .join(
            job_artifacts,
            (job_artifacts.c.tenant == artifacts.c.tenant)
            & (job_artifacts.c.sha256 == artifacts.c.sha256),
        )
        .where(job_artifacts.c.job.in_(mine.where(~is_shared)), artifacts.c.expired_at.is_(None))
        .distinct()
        .subquery()
    )
    measured = select(func.count(), func.sum(their_artifacts.c.size))
    with db.read() as connection:
        visible = (audits.c.id == audit_id, audits.c.tenant == tenant, ~audits.c.deleting)
        if connection.execute(select(audits.c.id).where(*visible)).one_or_none() is None:
            raise NotFound(f"there is no audit {audit_id}")
        n, live, shared = connection.execute(counted).one()
        n_artifacts, size = connection.execute(measured).one()
    return DeletionEstimate(n, live, shared, n_artifacts, int(size or 0))


def delete_audit(
    db: Database,
    tenant: str,
    store: ArtifactStore,
    audit_id: str,
    *,
    cancel: bool = False,
    wait_s: float = 2.0,
) -> Erasure:
    """Delete an audit for good: nobody sees it from now on.

    Args:
        cancel: cancel it first. Its jobs go as they end, which takes seconds if one is running.
        wait_s: see `shared.jobs.erasure.erase`.

    Raises:
        NotFound: no such audit of this tenant.
        Conflict: jobs of it have not ended, and `cancel` is false; nothing was changed.
        TransientError: the job store did not answer.
    """
    if cancel:
        cancel_audit(db, tenant, audit_id)

    def hide(connection: Connection) -> None:
        mine = (audits.c.id == audit_id, audits.c.tenant == tenant, ~audits.c.deleting)
        row = connection.execute(select(audits.c.id).where(*mine).with_for_update()).one_or_none()
        if row is None:
            raise NotFound(f"there is no audit {audit_id}")
        if not cancel:
            _require_ended(connection, audit_id)
        connection.execute(update(audits).where(audits.c.id == audit_id).values(deleting=True))
        _remove_answers(connection, tenant, audit_id)
        _forget(connection, tenant)
        note_erasure(db, connection, audit_id)
        failpoint("audit_deletion.before_commit")

    db.run_transaction(hide)
    failpoint("audit_deletion.after_commit")
    total, is_over = _continue(db, audit_id, time.monotonic() + DELETION_S, time.monotonic)
    finished = finish_soon(db, store, wait_s) and is_over
    return Erasure(1, total.jobs, total.artifacts, total.size, finished)


def finish_deletions(
    db: Database, ends_at: float, clock: Callable[[], float] = time.monotonic
) -> int:
    """Go on with audits that are being deleted, until the clock says `ends_at`; returns how many
    jobs went."""
    with db.read() as connection:
        pending = list(connection.execute(select(audits.c.id).where(IS_DELETING)).scalars())
    total = Removed()
    for audit_id in pending:
        total += _continue(db, audit_id, ends_at, clock)[0]
        if clock() >= ends_at:
            break
    return total.jobs


def _continue(
    db: Database, audit_id: str, ends_at: float, clock: Callable[[], float]
) -> tuple[Removed, bool]:
    """Go on with one audit; what went, and whether it is gone."""
    total = Removed()
    while True:
        step = db.run_transaction(lambda c: _remove_batch(db, c, audit_id))
        total += step.removed
        failpoint("audit_deletion.between_batches")
        if step.is_over or not step.unlinked or clock() >= ends_at:
            return total, step.is_over


def _remove_batch(db: Database, connection: Connection, audit_id: str) -> _Step:
    """Unlink some jobs, those that were made of others before those others."""
    # several may be at it
    wanted = select(audits).where(audits.c.id == audit_id, audits.c.deleting)
    audit = connection.execute(wanted.with_for_update()).one_or_none()
    if audit is None:
        return _Step(Removed(), 0, True)
    # A job that is still to obey a cancel goes once it has. What runs for others is left to them.
    is_live = jobs.c.state.in_(sorted(LIVE))
    stays = is_live if audit.cancelling else is_live & jobs.c.stop.is_not_distinct_from(Stop.CANCEL)
    links = audit_jobs.join(jobs, jobs.c.id == audit_jobs.c.job)
    mine = select(jobs.c.id, jobs.c.event_seq).select_from(links)
    mine = mine.where(audit_jobs.c.audit == audit_id, ~stays)
    newest = mine.order_by(jobs.c.created_at.desc(), jobs.c.id).limit(BATCH)
    groups = group_by_events(connection.execute(newest))
    batch = [row.id for row in groups[0]] if groups else []
    delete_rows(connection, audit_jobs, audit_jobs.c.job, batch, audit_jobs.c.audit == audit_id)
    removed, missed = remove_unreferenced_jobs(db, connection, audit.tenant, batch, ~jobs.c.pinned)
    # a later batch looks at them, whoever does it
    rows = [{"audit": audit_id, "job": job, "detached": True} for job in sorted(missed)]
    insert_rows(connection, audit_jobs, rows, ignore_conflicts=True)
    left = exists().where(audit_jobs.c.audit == audit_id)
    is_over = not connection.execute(select(left)).scalar_one()
    if is_over:
        connection.execute(delete(audits).where(audits.c.id == audit_id))
        _forget(connection, audit.tenant)
    return _Step(removed, len(batch), is_over)


def _remove_answers(connection: Connection, tenant: str, audit_id: str) -> None:
    """Those under an Idempotency-Key that name the audit are traces of it. That of an audit which
    goes by its age has gone before it (`shared.jobs.retention`)."""
    names_it = (idempotency.c.tenant == tenant) & idempotency.c.answer.contains(audit_id)
    connection.execute(delete(idempotency).where(names_it))


def _forget(connection: Connection, tenant: str) -> None:
    """What else names the audit, and those of its jobs that are gone."""
    hide_deleted(connection, tenant)
    forget_deleted(connection, tenant)


def _require_ended(connection: Connection, audit_id: str) -> None:
    links = audit_jobs.join(jobs, jobs.c.id == audit_jobs.c.job)
    is_live = jobs.c.state.in_(sorted(LIVE))
    # what a cancelled audit has left to others is not its own any more
    own = (audit_jobs.c.audit == audit_id, is_live, ~audit_jobs.c.detached)
    live = list(connection.execute(select(jobs.c.id).select_from(links).where(*own)).scalars())
    if live:
        named = ", ".join(sorted(live)[:SHOWN])
        rest = f" and {len(live) - SHOWN:,} more" if len(live) > SHOWN else ""
        raise Conflict(
            f"jobs of audit {audit_id} have not ended: {named}{rest}; wait until they "
            "have, or cancel and delete it in one request (cancel=true)"
        )
