"""Submission: one transaction stores idempotency key, audit, new jobs and links to identical live
ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from shared.errors import Conflict, InvalidRequest
from shared.failpoints import failpoint
from shared.jobs.bulk_delete import select_rows
from shared.jobs.bulk_insert import insert_rows
from shared.jobs.cost_history import find_parent_cost_keys
from shared.jobs.cost_keys import compute_cost_keys
from shared.jobs.database import Database
from shared.jobs.job_insert import ConcurrentDuplicate, NewJob, generate_id, insert_jobs
from shared.jobs.labels import AUDIT_LABELS
from shared.jobs.mapping import to_json
from shared.jobs.outbox import append_changed_audit
from shared.jobs.quotas import require_pending_quota, require_room
from shared.jobs.records import PlannedJob, SubmitResult
from shared.jobs.states import State
from shared.jobs.tables import audit_jobs, audits, idempotency, job_inputs, jobs
from shared.jobs.tenants import require_enabled

ANALYZE_FROM = 1000  # jobs at once: as many as it takes until a wrong count of them costs seconds
MAX_RACES = 10  # retries after a concurrent identical submission


@dataclass(frozen=True)
class IdempotencyKey:
    """An Idempotency-Key and the sha256 of the body that came with it."""

    key: str
    body_sha256: str


@dataclass(frozen=True)
class AuditRequest:
    """What to store of an audit besides its jobs."""

    name: str
    spec: Mapping[str, Any]
    labels: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)


def submit_jobs(
    db: Database,
    tenant: str,
    planned: Sequence[PlannedJob],
    *,
    audit: AuditRequest | None = None,
    idempotency_key: IdempotencyKey | None = None,
    priority: int = 0,
    time_limit: float | None = None,
    is_registered: bool = False,
) -> SubmitResult:
    """Store what was planned. `planned` is in an order in which parents come before children.

    A planned job whose equal is live, or has succeeded, is not stored again: the equal one is
    linked. Without an audit the jobs are marked as posted by hand.

    Args:
        is_registered: see `shared.jobs.tenant_store.TenantStore`.

    Raises:
        Conflict: an input job has failed or was cancelled, an equal job ended again and again while
            this came in, a request with the same Idempotency-Key is under way, or the tenant was
            disabled or deleted.
        InvalidRequest: the Idempotency-Key was used with another body, or an input artifact is
            unknown.
        QuotaReached: the tenant has as many waiting jobs or as many bytes as it may.
    """
    # Everything that needs no look at the store is made before the transaction: on SQLite it keeps
    # all others out.
    cost_keys = compute_cost_keys(planned, find_parent_cost_keys(db, tenant, planned))
    candidates = {
        job.request_key: NewJob.build(
            tenant,
            job,
            cost_keys[job.request_key],
            pinned=audit is None,
            priority=priority,
            time_limit=time_limit,
        )
        for job in planned
    }

    def store_submission(connection: Connection) -> SubmitResult:
        if is_registered:
            require_enabled(connection, tenant)
        if idempotency_key is not None:
            earlier = _claim_key(db, connection, tenant, idempotency_key)
            if earlier is not None:
                return earlier
        now = float(connection.execute(select(db.now)).scalar_one())
        audit_id = None if audit is None else generate_id("aud")
        if audit is not None:
            row = {
                "id": audit_id,
                "tenant": tenant,
                "name": audit.name,
                "spec": to_json(audit.spec),
                "metadata": to_json(audit.metadata),
            }
            connection.execute(insert(audits).values(**row, created_at=now))
            AUDIT_LABELS.replace(connection, str(audit_id), audit.labels)
            append_changed_audit(db, connection, tenant, str(audit_id))
        ids, stored = insert_jobs(connection, tenant, candidates, now)
        if stored:
            require_pending_quota(db, connection, tenant)
            require_room(connection, tenant)
        if audit_id is not None and ids:
            links = [
                {"audit": audit_id, "job": i, "detached": False} for i in sorted(set(ids.values()))
            ]
            insert_rows(connection, audit_jobs, links)
        new = {job.id: replace(job, audits=(audit_id,)) if audit_id else job for job in stored}
        stages = frozenset(job.stage for job in stored if job.state is State.QUEUED)
        result = SubmitResult(audit_id, ids, frozenset(new), stages, new=new)
        if idempotency_key is not None:
            text = to_json({"audit": audit_id, "jobs": ids, "created": sorted(new)})
            where = (idempotency.c.tenant == tenant) & (idempotency.c.key == idempotency_key.key)
            connection.execute(idempotency.update().where(where).values(answer=text))
        failpoint("gateway.before_commit")
        return result

    for _ in range(MAX_RACES):
        try:
            answer = db.run_transaction(store_submission)
        except ConcurrentDuplicate:
            continue
        if len(answer.created) >= ANALYZE_FROM:
            db.analyze(jobs, job_inputs, audit_jobs)
        return answer
    raise Conflict(
        "identical jobs are being submitted and finishing at the same time: submit it again"
    )


def _claim_key(
    db: Database, connection: Connection, tenant: str, idempotency_key: IdempotencyKey
) -> SubmitResult | None:
    """Take the key, or give the answer it got, if what that names is still there. The row is written
    in the same transaction as the jobs, so a second request with the key waits for the first one's
    commit and then sees its answer."""
    row = {
        "tenant": tenant,
        "key": idempotency_key.key,
        "body": idempotency_key.body_sha256,
        "answer": "",
    }
    insert_key = db.insert(idempotency).values(**row, created_at=db.now).on_conflict_do_nothing()
    if connection.execute(insert_key.returning(idempotency.c.key)).one_or_none() is not None:
        return None
    where = (idempotency.c.tenant == tenant) & (idempotency.c.key == idempotency_key.key)
    earlier = connection.execute(select(idempotency).where(where).with_for_update()).one()
    if _is_alive(connection, earlier):
        return _parse_answer(earlier, idempotency_key)
    connection.execute(update(idempotency).where(where).values(**row, created_at=db.now))
    return None


def _is_alive(connection: Connection, row: Row[Any]) -> bool:
    """Whether what an answer names is still there: the collector may have removed jobs that had
    ended long before the answer linked them."""
    answer = json.loads(row.answer)
    if answer["audit"] is not None:
        query = select(audits.c.id).where(audits.c.id == answer["audit"], ~audits.c.deleting)
        return connection.execute(query).first() is not None
    wanted = set(answer["jobs"].values())
    return len(select_rows(connection, (jobs.c.id,), jobs.c.id, wanted)) == len(wanted)


def _parse_answer(row: Row[Any], idempotency_key: IdempotencyKey) -> SubmitResult:
    if row.body != idempotency_key.body_sha256:
        raise InvalidRequest(
            f"Idempotency-Key {idempotency_key.key!r} was used with a different body: use a new key",
            "Idempotency-Key",
        )
    answer = json.loads(row.answer)
    return SubmitResult(
        answer["audit"], answer["jobs"], frozenset(answer["created"]), frozenset(), replayed=True
    )


def find_replay(db: Database, tenant: str, idempotency_key: IdempotencyKey) -> SubmitResult | None:
    """The answer that this request got before, if it did and what it names is still there. Asked
    before planning: what was accepted once is answered again even if the catalog or an input has
    changed since.

    Raises:
        InvalidRequest: the key was used with another body.
    """
    where = (idempotency.c.tenant == tenant) & (idempotency.c.key == idempotency_key.key)
    with db.read() as connection:
        row = connection.execute(select(idempotency).where(where)).one_or_none()
        if row is None or not _is_alive(connection, row):
            return None
    return _parse_answer(row, idempotency_key)
