"""Webhooks of a tenant, and their deliveries: who is told what, what is due, and how it went.

A delivery is sent at least once: it is taken for `LEASE_S` seconds, and when nobody has said by then
how that went, it is due again.
"""

from __future__ import annotations

import base64
import heapq
import json
import random
import secrets
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, delete, exists, func, insert, select, update

from shared.errors import Conflict, NotFound
from shared.jobs.bulk_delete import delete_rows, select_rows
from shared.jobs.database import Database
from shared.jobs.job_insert import generate_id
from shared.jobs.locks import lock_name
from shared.jobs.mapping import to_json
from shared.jobs.metric_totals import add_to_totals
from shared.jobs.paging import Page, apply_page, split_page
from shared.jobs.tables import audits, jobs, outbox, webhook_deliveries, webhooks
from shared.jobs.tenants import require_enabled
from shared.jobs.webhook_events import TEST_EVENT, insert_deliveries, make_body

MAX_WEBHOOKS = 10  # of one tenant
SECRET_PREFIX = "whsec_"  # noqa: S105 - as the Standard Webhooks specification has it
SECRET_BYTES = 32
LEASE_S = 60.0  # for an attempt, which takes less
# Pauses before the next attempt: from ten seconds, three times as long each time, to six hours. Twelve
# attempts are spread over about 27 hours.
FIRST_PAUSE_S, PAUSE_FACTOR, MAX_PAUSE_S = 10.0, 3.0, 6 * 3600.0
MAX_ATTEMPTS = 12
JITTER = 0.25  # share of a pause, more or less
KEEP_ENDED_S = 7 * 24 * 3600.0


class DeliveryState(StrEnum):
    """What has become of a delivery."""

    PENDING = "pending"
    DELIVERED = "delivered"  # the receiver has answered with a 2xx
    FAILED = "failed"  # every attempt failed


@dataclass(frozen=True)
class Webhook:
    """An address that a tenant wants to be told at. The secret stays in the store."""

    id: str
    url: str
    events: tuple[str, ...]
    created_at: float


@dataclass(frozen=True)
class Delivery:
    """One message to one webhook, and how the attempts to send it went."""

    id: str
    event: str
    state: str
    attempts: int
    outcome: str | None
    created_at: float
    next_at: float | None
    ended_at: float | None


@dataclass(frozen=True)
class DueDelivery:
    """A delivery in the hands of one sender. `attempt` counts from 1."""

    id: str
    webhook: str
    tenant: str
    url: str
    secret: str
    body: str
    attempt: int


def add_webhook(
    db: Database, tenant: str, url: str, events: Collection[str], *, is_registered: bool = False
) -> tuple[Webhook, str]:
    """Store a webhook whose URL has been checked; returns it with its secret, which nothing returns
    again.

    Args:
        is_registered: see `shared.jobs.tenant_store.TenantStore`.

    Raises:
        Conflict: the tenant has `MAX_WEBHOOKS` already, or was disabled or deleted.
    """
    secret = SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()

    def store(connection: Connection) -> Row[Any]:
        if is_registered:
            require_enabled(connection, tenant)
        lock_name(db, connection, f"webhooks of {tenant}")
        mine = select(func.count()).select_from(webhooks).where(webhooks.c.tenant == tenant)
        if connection.execute(mine).scalar_one() >= MAX_WEBHOOKS:
            raise Conflict(f"you already have {MAX_WEBHOOKS} webhooks: delete one first")
        values = {"tenant": tenant, "url": url, "events": to_json(sorted(set(events)))}
        statement = insert(webhooks).values(
            id=generate_id("whk"), secret=secret, created_at=db.now, **values
        )
        return connection.execute(statement.returning(webhooks)).one()

    return _build_webhook(db.run_transaction(store)), secret


def list_webhooks(db: Database, tenant: str) -> list[Webhook]:
    """The tenant's webhooks, newest first."""
    query = select(webhooks).where(webhooks.c.tenant == tenant)
    newest_first = query.order_by(webhooks.c.created_at.desc(), webhooks.c.id.desc())
    with db.read() as connection:
        return [_build_webhook(row) for row in connection.execute(newest_first)]


def delete_webhook(db: Database, tenant: str, webhook_id: str) -> None:
    """Remove a webhook with its deliveries, sent or not. Raises NotFound."""
    mine = (webhooks.c.id == webhook_id) & (webhooks.c.tenant == tenant)
    if not db.run_transaction(lambda c: c.execute(delete(webhooks).where(mine)).rowcount):
        raise NotFound(f"there is no webhook {webhook_id}")


def add_test_delivery(db: Database, tenant: str, webhook_id: str) -> str:
    """Have an event of no meaning sent to a webhook; returns the delivery's id. It takes the place of
    an earlier one that is still pending. Raises NotFound."""

    def append(connection: Connection) -> str:
        lock_name(db, connection, f"test of {webhook_id}")
        _require_own(connection, tenant, webhook_id)
        pending_tests = (
            (webhook_deliveries.c.webhook == webhook_id)
            & (webhook_deliveries.c.event == TEST_EVENT)
            & (webhook_deliveries.c.state == DeliveryState.PENDING)
        )
        connection.execute(delete(webhook_deliveries).where(pending_tests))
        now = float(connection.execute(select(db.now)).scalar_one())
        delivery_id = generate_id("msg")
        body = make_body(TEST_EVENT, now, webhook_id)
        row = {"id": delivery_id, "webhook": webhook_id, "event": TEST_EVENT, "body": body}
        insert_deliveries(db, connection, [row])
        return delivery_id

    return db.run_transaction(append)


def list_deliveries(
    db: Database, tenant: str, webhook_id: str, *, limit: int = 50, page: str | None = None
) -> Page[Delivery]:
    """A webhook's deliveries, newest first; those that ended a week ago are gone. Raises
    NotFound."""
    query = select(webhook_deliveries).where(webhook_deliveries.c.webhook == webhook_id)
    created_at, delivery_id = webhook_deliveries.c.created_at, webhook_deliveries.c.id
    with db.read() as connection:
        _require_own(connection, tenant, webhook_id)
        result = connection.execute(apply_page(query, created_at, delivery_id, page, limit))
        rows, token = split_page(result.all(), limit)
        return Page([_build_delivery(row) for row in rows], token)


def claim_due_deliveries(
    db: Database,
    limit: int,
    *,
    busy: Mapping[str, str] | None = None,
    per_tenant: int = 10_000,
    turns: Mapping[str, int] | None = None,
) -> list[DueDelivery]:
    """Take deliveries that are due, one of each webhook at most. Tenants that are sent to at the
    fewest webhooks come first, then those whose last turn was the longest ago, then what is the
    longest overdue: the last alone would let tenants with slow receivers keep all others waiting.

    Args:
        busy: webhooks that are being sent to, of which none is taken, with their tenants.
        per_tenant: how many webhooks of one tenant may be sent to at once.
        turns: the number of each tenant's last turn; of one that had none, no number.
    """
    busy, turns = busy or {}, turns or {}
    pending = (webhook_deliveries.c.webhook == webhooks.c.id) & (
        webhook_deliveries.c.state == DeliveryState.PENDING
    )
    due_at = select(func.min(webhook_deliveries.c.next_at)).where(pending).scalar_subquery()
    due = (
        select(webhooks.c.id, webhooks.c.tenant, due_at.label("due_at"))
        .where(due_at <= db.now, webhooks.c.id.not_in(list(busy)))
        .order_by("due_at", webhooks.c.id)
    )
    candidates: list[tuple[int, int, int, str]] = []
    of_tenant = Counter(busy.values())
    with db.read() as connection:  # mostly there is nothing to write
        for place, hook in enumerate(connection.execute(due)):
            if of_tenant[hook.tenant] < per_tenant:
                last_turn = turns.get(hook.tenant, -1)
                candidates.append((of_tenant[hook.tenant], last_turn, place, hook.id))
            of_tenant[hook.tenant] += 1
    if not candidates:
        return []
    next_ids = [hook_id for *_, hook_id in heapq.nsmallest(limit, candidates)]
    return db.run_transaction(lambda c: _claim_next_of_each(db, c, next_ids))


def _claim_next_of_each(
    db: Database, connection: Connection, hook_ids: Sequence[str]
) -> list[DueDelivery]:
    claimed = []
    query = select(webhooks).where(webhooks.c.id.in_(hook_ids))
    hooks = {hook.id: hook for hook in connection.execute(query)}
    for hook in (hooks[hook_id] for hook_id in hook_ids if hook_id in hooks):
        still_due = (
            (webhook_deliveries.c.webhook == hook.id)
            & (webhook_deliveries.c.state == DeliveryState.PENDING)
            & (webhook_deliveries.c.next_at <= db.now)
        )
        query = select(webhook_deliveries.c.id).where(still_due)
        first = query.order_by(webhook_deliveries.c.next_at).limit(1)
        delivery_id = connection.execute(
            first.with_for_update(skip_locked=True)
        ).scalar_one_or_none()
        if delivery_id is None:
            continue  # another sender has it
        take = (
            update(webhook_deliveries)
            .where(webhook_deliveries.c.id == delivery_id)
            .values(attempts=webhook_deliveries.c.attempts + 1, next_at=db.now + LEASE_S)
            .returning(webhook_deliveries.c.body, webhook_deliveries.c.attempts)
        )
        body, attempt = connection.execute(take).one()
        claimed.append(
            DueDelivery(delivery_id, hook.id, hook.tenant, hook.url, hook.secret, body, attempt)
        )
    return claimed


def record_delivery(db: Database, due: DueDelivery, *, delivered: bool, outcome: str) -> None:
    """Say how an attempt went. What has failed is due again after a pause, until `MAX_ATTEMPTS`
    have. An attempt that took longer than its lease only counts if it got through."""
    if delivered:
        state = DeliveryState.DELIVERED
    else:
        state = DeliveryState.FAILED if due.attempt >= MAX_ATTEMPTS else DeliveryState.PENDING
    values: dict[str, Any] = {"state": state, "outcome": outcome[:200]}
    if state is DeliveryState.PENDING:
        values["next_at"] = db.now + compute_pause(due.attempt)
    else:
        values |= {"next_at": None, "ended_at": db.now}
    mine = webhook_deliveries.c.id == due.id
    if not delivered:
        mine &= webhook_deliveries.c.attempts == due.attempt
    mine &= webhook_deliveries.c.state == DeliveryState.PENDING
    result = str(state) if state is not DeliveryState.PENDING else "retried"

    def write(connection: Connection) -> None:
        changed = connection.execute(update(webhook_deliveries).where(mine).values(**values))
        if changed.rowcount:
            add_to_totals(db, connection, {("webhook_attempts", (result,)): 1})

    db.run_transaction(write)


def compute_pause(attempt: int) -> float:
    """Seconds after this attempt (from 1) until the next, with jitter: receivers that were away
    together are not sent everything at the same moment."""
    pause_s = min(MAX_PAUSE_S, FIRST_PAUSE_S * PAUSE_FACTOR ** (attempt - 1))
    return pause_s * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - spread, not secrecy


def delete_ended_deliveries(db: Database, limit: int = 1000) -> int:
    """Forget deliveries that ended a week ago; returns how many."""
    old = select(webhook_deliveries.c.id).where(
        webhook_deliveries.c.ended_at < db.now - KEEP_ENDED_S
    )
    with db.read() as connection:
        ids = list(connection.execute(old.limit(limit)).scalars())
    if ids:
        statement = delete(webhook_deliveries).where(webhook_deliveries.c.id.in_(ids))
        db.run_transaction(lambda c: c.execute(statement))
    return len(ids)


def forget_deleted(connection: Connection, tenant: str) -> None:
    """Remove what names jobs and audits of a tenant that are deleted: deliveries, sent or not, and
    the ids in the outbox, whose rows are still counted. For the transaction that deletes them."""
    is_job = exists().where(jobs.c.id == outbox.c.subject)
    is_audit = exists().where(audits.c.id == outbox.c.subject, ~audits.c.deleting)
    untold = (outbox.c.tenant == tenant, outbox.c.subject.is_not(None), ~is_job, ~is_audit)
    # First: whoever reads one of these rows has locked it, and may be writing deliveries.
    connection.execute(update(outbox).where(*untold).values(subject=None))
    query = (
        select(webhook_deliveries.c.id, webhook_deliveries.c.body)
        .join(webhooks, webhooks.c.id == webhook_deliveries.c.webhook)
        .where(webhooks.c.tenant == tenant, webhook_deliveries.c.event != TEST_EVENT)
    )
    subjects = {row.id: json.loads(row.body)["data"]["id"] for row in connection.execute(query)}
    named = set(subjects.values())
    kept = select_rows(connection, (jobs.c.id,), jobs.c.id, named)
    kept += select_rows(connection, (audits.c.id,), audits.c.id, named, ~audits.c.deleting)
    existing = {row.id for row in kept}
    gone = [delivery for delivery, subject in subjects.items() if subject not in existing]
    delete_rows(connection, webhook_deliveries, webhook_deliveries.c.id, gone)


def _require_own(connection: Connection, tenant: str, webhook_id: str) -> None:
    mine = (webhooks.c.id == webhook_id) & (webhooks.c.tenant == tenant)
    if connection.execute(select(webhooks.c.id).where(mine)).one_or_none() is None:
        raise NotFound(f"there is no webhook {webhook_id}")


def _build_webhook(row: Row[Any]) -> Webhook:
    return Webhook(row.id, row.url, tuple(json.loads(row.events)), row.created_at)


def _build_delivery(row: Row[Any]) -> Delivery:
    return Delivery(
        row.id, row.event, row.state, row.attempts, row.outcome, row.created_at, row.next_at,
        row.ended_at,
    )  # fmt: skip
