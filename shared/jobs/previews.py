"""Previews: what an attacker sees of its reconstruction while its job runs.

At most one per job, the latest. An attempt that lost its lease writes none, and what a worker
writes is checked before it is stored and again before it is handed out: it is shown to people.
"""

from __future__ import annotations

import json

from sqlalchemy import Connection, func, select, update

from shared.errors import InvalidRequest, NotFound
from shared.jobs.database import Database
from shared.jobs.mapping import is_deleting
from shared.jobs.outbox import run_fenced_transaction
from shared.jobs.records import JobPreview, Preview
from shared.jobs.states import State
from shared.jobs.tables import audit_jobs, jobs, previews
from shared.jobs.transitions import lock_with_fence

MEDIA_TYPE = "image/png"
SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_BYTES = 64 << 10
MAX_STEPS = 2**31 - 1  # what the column holds


def record_preview(
    db: Database, job_id: str, fence: int, body: bytes, step: int, total: int
) -> None:
    """Replace the job's preview.

    Args:
        body: a PNG of at most `MAX_BYTES`.
        step: steps that are done, of `total`.

    Raises:
        InvalidRequest: it is no such picture, or the steps are not 0 <= step <= total.
        FencedOut: the fence has passed; nothing was written.
    """
    if not is_picture(body):
        raise InvalidRequest(f"a preview must be a PNG of at most {MAX_BYTES} bytes", "preview")
    if not 0 <= step <= total <= MAX_STEPS:
        raise InvalidRequest(f"step {step} of {total} is no step of a job", "preview")

    def replace(connection: Connection) -> None:
        row = lock_with_fence(connection, job_id, fence)
        values = {
            "step": step,
            "total": total,
            "media_type": MEDIA_TYPE,
            "body": body,
            "made_at": db.now,
        }
        new = db.insert(previews).values(job=job_id, tenant=row.tenant, **values)
        connection.execute(new.on_conflict_do_update(index_elements=["job"], set_=values))
        # whoever follows the job sees that it has changed
        changed = update(jobs).where(jobs.c.id == job_id)
        connection.execute(changed.values(version=jobs.c.version + 1))

    run_fenced_transaction(db, job_id, replace)


def is_picture(body: bytes) -> bool:
    """Whether this may be a preview: a PNG by its signature, and small."""
    return body.startswith(SIGNATURE) and len(body) <= MAX_BYTES


def get_preview(db: Database, tenant: str, job_id: str) -> Preview:
    """The job's preview with its picture.

    Raises:
        NotFound: there is none, or no such job of this tenant.
    """
    # bounded before it is read
    query = select(previews).where(
        previews.c.job == job_id,
        previews.c.tenant == tenant,
        func.length(previews.c.body) <= MAX_BYTES,
    )
    with db.read() as connection:
        row = connection.execute(query).one_or_none()
    if row is None or not is_picture(bytes(row.body)):
        raise NotFound(f"job {job_id} has no preview")
    return Preview(row.step, row.total, row.made_at, bytes(row.body))


def list_previews(db: Database, tenant: str, audit_id: str, limit: int) -> list[JobPreview]:
    """The latest previews of an audit, by seed and method, without the pictures; none for another
    tenant's."""
    query = (
        select(
            jobs.c.id,
            jobs.c.stage,
            jobs.c.method,
            jobs.c.seed,
            jobs.c.state,
            jobs.c.progress,
            previews.c.step,
            previews.c.total,
            previews.c.made_at,
        )
        .join(previews, previews.c.job == jobs.c.id)
        .join(audit_jobs, audit_jobs.c.job == jobs.c.id)
        .where(
            audit_jobs.c.audit == audit_id,
            ~audit_jobs.c.detached,
            ~is_deleting(audit_jobs.c.audit),
            jobs.c.tenant == tenant,
        )
        .order_by(previews.c.made_at.desc(), jobs.c.id)
        .limit(limit)
    )
    with db.read() as connection:
        rows = connection.execute(query).all()
    # pictures keep their places while they are replaced
    return [
        JobPreview(
            row.id,
            row.stage,
            row.method,
            row.seed,
            State(row.state),
            json.loads(row.progress),
            Preview(row.step, row.total, row.made_at),
        )
        for row in sorted(rows, key=lambda row: (row.seed, row.method or "", row.id))
    ]
