"""Which webhooks are told of what: deliveries for the jobs and audits that have ended.

A delivery's body says what has ended and how, with ids and links, and nothing of its content.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Double, Row, case, exists, func, insert, literal, select

from shared.jobs.database import Database
from shared.jobs.mapping import slices, to_json
from shared.jobs.outbox import Kind
from shared.jobs.states import LIVE, TERMINAL, State
from shared.jobs.tables import audit_jobs, audits, jobs, outbox, webhook_deliveries, webhooks

TEST_EVENT = "webhook.test"
AUDIT_EVENTS = tuple(f"audit.{state}" for state in sorted(TERMINAL))
JOB_EVENTS = tuple(f"job.{state}" for state in sorted(TERMINAL))
EVENTS = (*AUDIT_EVENTS, *JOB_EVENTS)
MAX_SHARING_AUDITS = 500  # of the jobs of one batch, that are looked at in one transaction


def append_deliveries(db: Database, connection: Connection, rows: Sequence[Row[Any]]) -> None:
    """For rows that are taken out of the outbox: one delivery for each webhook that wants to know
    of what has ended."""
    tenants = {row.tenant for row in rows if row.kind in (Kind.JOB_ENDED, Kind.AUDIT_CHANGED)}
    if not tenants:
        return
    query = select(webhooks).where(webhooks.c.tenant.in_(tenants))
    wanting = [(hook, json.loads(hook.events)) for hook in connection.execute(query)]
    if not wanting:
        return
    endings = [
        (row.tenant, f"job.{row.state}", row.subject, row.seq, row.at)
        for row in rows
        if row.kind == Kind.JOB_ENDED and row.subject is not None  # None: it is deleted
    ]
    if any(event in AUDIT_EVENTS for _, events in wanting for event in events):
        tenants = {hook.tenant for hook, _ in wanting}
        ids = _take_audits(connection, rows, tenants)
        endings += _list_ended_audits(connection, ids, tenants)
    deliveries = [
        {
            "id": make_delivery_id(hook.id, event, subject, end),
            "webhook": hook.id,
            "event": event,
            "body": make_body(event, at, subject),
        }
        for tenant, event, subject, end, at in endings
        for hook, events in wanting
        if hook.tenant == tenant and event in events and at >= hook.created_at
    ]
    insert_deliveries(db, connection, deliveries)


def insert_deliveries(
    db: Database, connection: Connection, deliveries: Sequence[dict[str, Any]]
) -> None:
    """Add deliveries that are due at once; one that is there already stays as it is."""
    if deliveries:
        values = {"state": "pending", "attempts": 0, "next_at": db.now, "created_at": db.now}
        connection.execute(
            db.insert(webhook_deliveries).values(**values).on_conflict_do_nothing(), deliveries
        )


def make_delivery_id(webhook: str, event: str, subject: str, end: object) -> str:
    """The same for the same end of the same thing: who notes an end twice tells it once."""
    text = to_json([webhook, event, subject, str(end)])
    return f"msg_{hashlib.sha256(text.encode()).hexdigest()[:20]}"


def make_body(event: str, at: float, subject: str) -> str:
    """What is sent: JSON, with the time in UTC (`at`: seconds since 1970)."""
    kind, _, state = event.partition(".")
    data = {"id": subject, "state": state, "url": f"/v1/{kind}s/{subject}"}
    if event == TEST_EVENT:
        data = {"id": subject}
    moment = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return to_json({"type": event, "timestamp": moment.replace("+00:00", "Z"), "data": data})


def _take_audits(connection: Connection, rows: Sequence[Row[Any]], tenants: set[str]) -> list[str]:
    """The audits that these rows may have ended, so many that the transaction stays short: any number
    of audits may share a job. The others go back to the outbox."""
    changed = {r.subject for r in rows if r.kind == Kind.AUDIT_CHANGED and r.subject is not None}
    ended_jobs = [r.subject for r in rows if r.kind == Kind.JOB_ENDED and r.tenant in tenants]
    linked = (
        select(audit_jobs.c.audit)
        .where(audit_jobs.c.job.in_(ended_jobs), ~audit_jobs.c.detached)
        .distinct()
    )
    first = linked.order_by(audit_jobs.c.audit).limit(MAX_SHARING_AUDITS)
    taken = list(connection.execute(first).scalars())
    if len(taken) == MAX_SHARING_AUDITS:
        at = max(r.at for r in rows if r.kind == Kind.JOB_ENDED)
        others = select(
            literal(str(Kind.AUDIT_CHANGED)), audits.c.id, audits.c.tenant, literal(at, Double)
        ).where(audits.c.id.in_(linked), audits.c.id > taken[-1])
        connection.execute(insert(outbox).from_select(["kind", "subject", "tenant", "at"], others))
    return sorted(changed.union(taken))


def _list_ended_audits(
    connection: Connection, ids: Sequence[str], tenants: set[str]
) -> list[tuple[str, str, str, object, float]]:
    """Those of these audits that have ended: tenant, event, id, which end of it, when."""
    ended: list[tuple[str, str, str, object, float]] = []
    for batch in slices(ids):
        job_of_audit = (audit_jobs.c.audit == audits.c.id) & (audit_jobs.c.job == jobs.c.id)
        is_live = exists().where(job_of_audit, jobs.c.state.in_(LIVE))
        query = select(audits).where(audits.c.id.in_(batch), audits.c.tenant.in_(tenants))
        over = query.where(audits.c.cancelled_at.is_not(None) | ~is_live)
        ended_audits = connection.execute(over.order_by(audits.c.id)).all()
        last_ends = _find_last_ends(
            connection, [a.id for a in ended_audits if a.cancelled_at is None]
        )
        for audit in ended_audits:
            if audit.cancelled_at is not None:
                at = float(audit.cancelled_at)
                ended.append((audit.tenant, "audit.cancelled", audit.id, "cancelled", at))
                continue
            last, state = last_ends.get(audit.id, (None, State.SUCCEEDED))
            # of an audit all of whose jobs were there already, the end is its submission
            at = max(last or 0.0, float(audit.created_at))
            ended.append((audit.tenant, f"audit.{state}", audit.id, repr(last), at))
    return ended


def _find_last_ends(
    connection: Connection, ids: Sequence[str]
) -> dict[str, tuple[float | None, State]]:
    """Of audits that have ended, by id: when their last job did, and how they went."""
    unsuccessful = func.sum(case((jobs.c.state != State.SUCCEEDED, 1), else_=0))
    query = (
        select(audit_jobs.c.audit, func.max(jobs.c.finished_at), unsuccessful)
        .join(jobs, jobs.c.id == audit_jobs.c.job)
        .where(audit_jobs.c.audit.in_(ids))
        .group_by(audit_jobs.c.audit)
    )
    return {
        audit: (last, State.FAILED if count else State.SUCCEEDED)
        for audit, last, count in connection.execute(query)
    }
