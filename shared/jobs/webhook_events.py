"""Which webhooks are told of what: deliveries for the jobs and audits that have ended.

A delivery's body says what has ended and how, with ids and links, and nothing of its content.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select

from shared.jobs.database import Database
from shared.jobs.mapping import to_json
from shared.jobs.outbox import Kind
from shared.jobs.states import LIVE, TERMINAL, State
from shared.jobs.tables import audit_jobs, audits, jobs, webhook_deliveries, webhooks

TEST_EVENT = "webhook.test"
AUDIT_EVENTS = tuple(f"audit.{state}" for state in sorted(TERMINAL))
JOB_EVENTS = tuple(f"job.{state}" for state in sorted(TERMINAL))
EVENTS = (*AUDIT_EVENTS, *JOB_EVENTS)


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
        if row.kind == Kind.JOB_ENDED
    ]
    if any(event in AUDIT_EVENTS for _, events in wanting for event in events):
        endings += _list_ended_audits(connection, rows, {hook.tenant for hook, _ in wanting})
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


def _list_ended_audits(
    connection: Connection, rows: Sequence[Row[Any]], tenants: set[str]
) -> list[tuple[str, str, str, object, float]]:
    """The audits behind these rows that have ended: tenant, event, id, which end of it, when."""
    changed = {r.subject: r.at for r in rows if r.kind == Kind.AUDIT_CHANGED}
    ended_jobs = {r.subject for r in rows if r.kind == Kind.JOB_ENDED and r.tenant in tenants}
    linked = select(audit_jobs.c.audit).where(
        audit_jobs.c.job.in_(ended_jobs), ~audit_jobs.c.detached
    )
    ids = {*changed, *connection.execute(linked.distinct()).scalars()}
    query = select(audits).where(audits.c.id.in_(ids), audits.c.tenant.in_(tenants))
    ended: list[tuple[str, str, str, object, float]] = []
    for audit in connection.execute(query.order_by(audits.c.id)).all():
        if audit.cancelled_at is not None:
            at = float(audit.cancelled_at)
            ended.append((audit.tenant, "audit.cancelled", audit.id, "cancelled", at))
            continue
        mine = select(jobs.c.id).join(audit_jobs, audit_jobs.c.job == jobs.c.id)
        mine = mine.where(audit_jobs.c.audit == audit.id)
        if connection.execute(mine.where(jobs.c.state.in_(LIVE)).limit(1)).first() is not None:
            continue
        last = connection.execute(mine.with_only_columns(func.max(jobs.c.finished_at))).scalar_one()
        failed = mine.where(jobs.c.state != State.SUCCEEDED).limit(1)
        state = State.SUCCEEDED if connection.execute(failed).first() is None else State.FAILED
        # of an audit all of whose jobs were there already, the end is its submission
        at = max(float(last or 0.0), float(audit.created_at))
        ended.append((audit.tenant, f"audit.{state}", audit.id, repr(last), at))
    return ended
