"""What has happened is counted once and told once, whoever dies in between."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, func, select, update

from shared.errors import Conflict, FencedOut, NotFound
from shared.jobs import attempts, control, outbox_reader, webhook_events, webhooks
from shared.jobs.database import Database
from shared.jobs.job_insert import generate_id
from shared.jobs.metric_totals import load_totals
from shared.jobs.outbox_reader import process_outbox
from shared.jobs.states import Failure
from shared.jobs.tables import jobs, outbox, webhook_deliveries
from shared.jobs.webhook_events import EVENTS, TEST_EVENT, insert_deliveries
from shared.jobs.webhooks import DueDelivery, claim_due_deliveries, record_delivery
from tests.support.job_store import (
    ALICE,
    BOB,
    STAGE,
    JobStore,
    make_planned_job,
    run_together,
)

URL = "https://receiver.example/hook"


def _totals(store: JobStore) -> dict[str, dict[tuple[str, ...], float]]:
    with store.db.read() as connection:
        return load_totals(connection)


def _count_outbox(store: JobStore) -> int:
    with store.db.read() as connection:
        return connection.execute(select(func.count()).select_from(outbox)).scalar_one()


def _list_bodies(db: Database) -> list[dict[str, Any]]:
    query = select(webhook_deliveries).order_by(webhook_deliveries.c.event)
    with db.read() as connection:
        return [json.loads(row.body) for row in connection.execute(query)]


def _list_events(db: Database) -> list[str]:
    return [body["type"] for body in _list_bodies(db)]


@contextmanager
def _count_statements(db: Database) -> Iterator[list[int]]:
    """How many statements the job store gets meanwhile."""
    count = [0]

    def add_one(*_: Any) -> None:
        count[0] += 1

    event.listen(db.engine, "before_cursor_execute", add_one)
    yield count
    event.remove(db.engine, "before_cursor_execute", add_one)


def _make_due(store: JobStore) -> None:
    """As if the pauses of all deliveries were over."""
    with store.db.write() as connection:
        connection.execute(
            update(webhook_deliveries)
            .where(webhook_deliveries.c.next_at.is_not(None))
            .values(next_at=1.0)
        )


def test_ends_lost_attempts_and_refused_writes_are_counted(store: JobStore) -> None:
    store.run_job("succeeds")
    store.post(make_planned_job("fails"))
    store.fail(store.claim_one())
    job_id = store.post(make_planned_job("is lost"))
    claim = store.claim_one()
    store.lose_attempt(claim)
    for write in (
        lambda: store.finish(claim),
        lambda: store.fail(claim),
        lambda: attempts.cancel_attempt(store.db, job_id, claim.fence),
        lambda: attempts.drain_attempt(store.db, job_id, claim.fence),
        lambda: attempts.save_checkpoint(store.db, job_id, claim.fence, "0" * 64, "key"),
    ):
        with pytest.raises(FencedOut):
            write()
    # the lease process asks, and writes nothing: that is no refusal
    assert attempts.renew_lease(store.db, job_id, claim.fence, 60) is None
    control.cancel_job(store.db, ALICE, job_id)
    assert process_outbox(store.db) == _count_outbox(store) + 3 + 1 + 5
    totals = _totals(store)
    assert totals["jobs_finished"] == {
        (STAGE, "succeeded"): 1,
        (STAGE, "failed"): 1,
        (STAGE, "cancelled"): 1,
    }
    assert totals["tenant_jobs_finished"] == {
        (ALICE, state): 1 for state in ("succeeded", "failed", "cancelled")
    }
    assert totals["job_failures"] == {(STAGE, "error"): 1}
    assert totals["attempts_lost"] == {(STAGE,): 1}
    assert totals["writes_refused"] == {(STAGE,): 5}
    # the cancelled one did not run when it ended
    assert sum(totals["job_run_bucket"].values()) == 2
    assert sum(totals["job_wait_bucket"].values()) == 2
    assert process_outbox(store.db) == 0
    assert _totals(store) == totals


def test_a_cancelled_audit_of_many_jobs_counts_each(store: JobStore) -> None:
    root = make_planned_job("root")
    audit, _ = store.submit_audit(root, *(make_planned_job(f"{n}", root) for n in range(3)))
    control.cancel_audit(store.db, ALICE, audit)
    process_outbox(store.db)
    assert _totals(store)["jobs_finished"] == {(STAGE, "cancelled"): 4}


def test_times_that_a_clock_set_back_made_negative_count_as_none(store: JobStore) -> None:
    store.post(make_planned_job("a"))
    claim = store.claim_one()
    with store.db.write() as connection:
        connection.execute(update(jobs).values(started_at=jobs.c.started_at - 1000))
    store.finish(claim)
    process_outbox(store.db)
    totals = _totals(store)
    assert totals["job_wait_sum"] == {(STAGE,): 0.0}
    assert totals["job_run_bucket"] == {(STAGE, "3600"): 1}


def test_several_who_read_the_outbox_count_each_row_once(store: JobStore) -> None:
    ids = [store.post(make_planned_job(f"{n}")) for n in range(20)]
    for job_id in ids:
        control.cancel_job(store.db, ALICE, job_id)
    answers = run_together(*[lambda: process_outbox(store.db)] * 3)
    assert sum(n for n in answers if isinstance(n, int)) == 20
    assert _totals(store)["jobs_finished"] == {(STAGE, "cancelled"): 20}


def test_what_dies_while_it_reads_has_counted_nothing(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    control.cancel_job(store.db, ALICE, store.post(make_planned_job("a")))

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(outbox_reader, "append_deliveries", die)  # after the count, before the commit
        with pytest.raises(KeyboardInterrupt):
            process_outbox(store.db)
    assert _totals(store) == {}
    assert process_outbox(store.db) == 1
    assert _totals(store)["jobs_finished"] == {(STAGE, "cancelled"): 1}


def test_tenants_beyond_the_first_are_counted_together(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_reader, "MAX_NAMED_TENANTS", 2)
    for n, tenant in enumerate(("c", "b", "a", "c", "d")):
        control.cancel_job(store.db, tenant, store.post(make_planned_job(f"{n}"), tenant=tenant))
        process_outbox(store.db)
    assert _totals(store)["tenant_jobs_finished"] == {
        ("c", "cancelled"): 2,
        ("b", "cancelled"): 1,
        ("other", "cancelled"): 2,
    }


def test_a_webhook_is_told_of_what_it_wants_and_of_its_own_tenant_only(store: JobStore) -> None:
    webhooks.add_webhook(store.db, ALICE, URL, ["audit.succeeded", "job.failed"])
    webhooks.add_webhook(store.db, BOB, URL, EVENTS)
    root = make_planned_job("root")
    audit, (job_id,) = store.submit_audit(root)
    store.finish(store.claim_one())
    process_outbox(store.db)
    (body,) = _list_bodies(store.db)
    assert body["data"] == {"id": audit, "state": "succeeded", "url": f"/v1/audits/{audit}"}
    assert (body["type"], body["timestamp"][-1]) == ("audit.succeeded", "Z")
    failing = store.post(make_planned_job("fails"))
    store.fail(store.claim_one())
    process_outbox(store.db)
    assert [body["data"]["id"] for body in _list_bodies(store.db)] == [audit, failing]
    assert job_id != failing


def test_an_audit_ends_once_with_its_last_job_and_again_after_a_retry(store: JobStore) -> None:
    webhooks.add_webhook(store.db, ALICE, URL, EVENTS[:3])
    store.submit_audit(make_planned_job("a"), make_planned_job("b"))
    store.finish(store.claim_one())
    process_outbox(store.db)
    assert _list_events(store.db) == []
    claim = store.claim_one()
    store.fail(claim)
    process_outbox(store.db)
    assert _list_events(store.db) == ["audit.failed"]
    control.retry_job(store.db, ALICE, claim.job.id)
    process_outbox(store.db)
    store.finish(store.claim_one())
    process_outbox(store.db)
    assert _list_events(store.db) == ["audit.failed", "audit.succeeded"]


def test_a_job_of_many_audits_is_told_to_a_few_of_them_at_a_time(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhooks.add_webhook(store.db, ALICE, URL, EVENTS[:3])
    shared = make_planned_job("shared")
    ended = [store.submit_audit(shared)[0] for _ in range(7)]
    store.submit_audit(shared, make_planned_job("runs on"))
    process_outbox(store.db)
    store.finish(store.claim_one())
    monkeypatch.setattr(webhook_events, "MAX_SHARING_AUDITS", 3)
    with _count_statements(store.db) as few:
        assert process_outbox(store.db) == 1
    assert 2 <= len(_list_bodies(store.db)) <= 3
    with _count_statements(store.db) as many:
        assert process_outbox(store.db) == 5
    assert many[0] <= few[0]  # however many audits there are
    assert process_outbox(store.db) == 0
    assert sorted(body["data"]["id"] for body in _list_bodies(store.db)) == sorted(ended)


def test_an_audit_has_ended_also_where_no_job_of_it_has_to_run(store: JobStore) -> None:
    store.run_job("there already")
    process_outbox(store.db)
    webhooks.add_webhook(store.db, ALICE, URL, EVENTS)
    store.submit_audit(make_planned_job("there already"))
    process_outbox(store.db)
    assert _list_events(store.db) == ["audit.succeeded"]


def test_a_cancelled_audit_is_told_at_once(store: JobStore) -> None:
    webhooks.add_webhook(store.db, ALICE, URL, EVENTS)
    audit, _ = store.submit_audit(make_planned_job("runs"))
    process_outbox(store.db)
    claim = store.claim_one()
    control.cancel_audit(store.db, ALICE, audit)
    process_outbox(store.db)
    assert _list_events(store.db) == ["audit.cancelled"]
    attempts.cancel_attempt(store.db, claim.job.id, claim.fence)
    process_outbox(store.db)
    assert _list_events(store.db) == ["audit.cancelled", "job.cancelled"]


def test_what_ended_before_the_webhook_was_added_is_not_told(store: JobStore) -> None:
    store.run_job("a")
    webhooks.add_webhook(store.db, ALICE, URL, EVENTS)
    process_outbox(store.db)
    assert _list_events(store.db) == []


def test_a_webhook_of_another_tenant_is_not_there(store: JobStore) -> None:
    hook, secret = webhooks.add_webhook(store.db, ALICE, URL, EVENTS)
    assert secret.startswith("whsec_")
    assert webhooks.list_webhooks(store.db, BOB) == []
    for call in (
        lambda: webhooks.delete_webhook(store.db, BOB, hook.id),
        lambda: webhooks.add_test_delivery(store.db, BOB, hook.id),
        lambda: webhooks.list_deliveries(store.db, BOB, hook.id),
    ):
        with pytest.raises(NotFound):
            call()
    webhooks.add_test_delivery(store.db, ALICE, hook.id)
    webhooks.delete_webhook(store.db, ALICE, hook.id)
    assert _list_bodies(store.db) == []


def test_a_tenant_has_few_webhooks(store: JobStore) -> None:
    for _ in range(webhooks.MAX_WEBHOOKS):
        webhooks.add_webhook(store.db, ALICE, URL, EVENTS)
    with pytest.raises(Conflict, match="delete one first"):
        webhooks.add_webhook(store.db, ALICE, URL, EVENTS)
    webhooks.add_webhook(store.db, BOB, URL, EVENTS)


def _claim_one(store: JobStore) -> DueDelivery:
    (due,) = claim_due_deliveries(store.db, 10)
    return due


def test_a_delivery_is_retried_until_it_is_given_up(store: JobStore) -> None:
    hook, _ = webhooks.add_webhook(store.db, ALICE, URL, EVENTS)
    webhooks.add_test_delivery(store.db, ALICE, hook.id)
    for attempt in range(1, webhooks.MAX_ATTEMPTS + 1):
        due = _claim_one(store)
        assert due.attempt == attempt
        assert claim_due_deliveries(store.db, 10) == []  # it is taken
        record_delivery(store.db, due, delivered=False, outcome="HTTP 503")
        assert claim_due_deliveries(store.db, 10) == []  # it pauses
        _make_due(store)
    assert claim_due_deliveries(store.db, 10) == []
    (delivery,) = webhooks.list_deliveries(store.db, ALICE, hook.id).items
    assert (delivery.state, delivery.outcome, delivery.next_at) == ("failed", "HTTP 503", None)
    assert delivery.ended_at is not None
    assert _totals(store)["webhook_attempts"] == {("retried",): 11, ("failed",): 1}


def test_a_delivery_whose_sender_died_is_sent_again(store: JobStore) -> None:
    hook, _ = webhooks.add_webhook(store.db, ALICE, URL, EVENTS)
    webhooks.add_test_delivery(store.db, ALICE, hook.id)
    dead = _claim_one(store)
    _make_due(store)  # as after its lease
    living = _claim_one(store)
    assert (living.id, living.body) == (dead.id, dead.body)
    # the first was only slow: that it failed counts no more, that it got through does
    record_delivery(store.db, dead, delivered=False, outcome="timed out")
    assert webhooks.list_deliveries(store.db, ALICE, hook.id).items[0].outcome is None
    record_delivery(store.db, dead, delivered=True, outcome="HTTP 200")
    record_delivery(store.db, living, delivered=False, outcome="HTTP 409")
    (delivery,) = webhooks.list_deliveries(store.db, ALICE, hook.id).items
    assert (delivery.state, delivery.outcome) == ("delivered", "HTTP 200")


def _add_deliveries(store: JobStore, hook: str, count: int, event: str = "job.failed") -> None:
    rows = [
        {"id": generate_id("msg"), "webhook": hook, "event": event, "body": "{}"}
        for _ in range(count)
    ]
    store.db.run_transaction(lambda c: insert_deliveries(store.db, c, rows))


def test_webhooks_take_turns(store: JobStore) -> None:
    hooks = [webhooks.add_webhook(store.db, t, URL, EVENTS)[0] for t in (ALICE, ALICE, BOB)]
    _add_deliveries(store, hooks[0].id, 3)
    _add_deliveries(store, hooks[2].id, 3)
    claimed = claim_due_deliveries(store.db, 10)
    assert {d.webhook for d in claimed} == {hooks[0].id, hooks[2].id}
    busy = {hooks[0].id: ALICE}
    assert [d.webhook for d in claim_due_deliveries(store.db, 10, busy=busy)] == [hooks[2].id]
    webhooks.add_test_delivery(store.db, ALICE, hooks[1].id)
    assert claim_due_deliveries(store.db, 10, busy={**busy, hooks[2].id: BOB}, per_tenant=1) == []
    assert len(claim_due_deliveries(store.db, 1)) == 1


def test_tenants_take_turns_whatever_is_the_longest_overdue(store: JobStore) -> None:
    slow = ["s1", "s2", "s3"]
    hooks = {t: webhooks.add_webhook(store.db, t, URL, EVENTS)[0].id for t in (*slow, BOB)}
    for tenant in slow:
        _add_deliveries(store, hooks[tenant], 9)
    _make_due(store)  # all of them long ago
    _add_deliveries(store, hooks[BOB], 1)
    turns: dict[str, int] = {}
    for turn in range(4):  # one slot, and each time what it was used for has ended
        (due,) = claim_due_deliveries(store.db, 1, turns=turns)
        turns[due.tenant] = turn
    assert set(turns) == {*slow, BOB}
    # who is sent to at fewer webhooks comes first
    more = webhooks.add_webhook(store.db, "s1", URL, EVENTS)[0].id
    _add_deliveries(store, more, 1)
    busy = {hooks["s1"]: "s1"}
    due, *_ = claim_due_deliveries(store.db, 1, busy=busy, turns={"s2": 8, "s3": 9})
    assert due.tenant == "s2"


def test_a_test_that_is_still_pending_is_replaced(store: JobStore) -> None:
    hook, _ = webhooks.add_webhook(store.db, ALICE, URL, EVENTS)
    other, _ = webhooks.add_webhook(store.db, ALICE, URL, EVENTS)
    kept = webhooks.add_test_delivery(store.db, ALICE, other.id)
    _add_deliveries(store, hook.id, 1)
    run_together(*[lambda: webhooks.add_test_delivery(store.db, ALICE, hook.id)] * 4)
    last = webhooks.add_test_delivery(store.db, ALICE, hook.id)
    listed = webhooks.list_deliveries(store.db, ALICE, hook.id).items
    assert [d.id for d in listed if d.event == TEST_EVENT] == [last]
    assert len(listed) == 2
    assert [d.id for d in webhooks.list_deliveries(store.db, ALICE, other.id).items] == [kept]
    with store.db.write() as connection:
        connection.execute(update(webhook_deliveries).values(state="delivered", next_at=None))
    webhooks.add_test_delivery(store.db, ALICE, hook.id)  # what has ended stays in the list
    assert len(webhooks.list_deliveries(store.db, ALICE, hook.id).items) == 3


def test_no_race_adds_more_webhooks_than_a_tenant_may_have(store: JobStore) -> None:
    for _ in range(webhooks.MAX_WEBHOOKS - 1):
        webhooks.add_webhook(store.db, ALICE, URL, EVENTS)
    answers = run_together(*[lambda: webhooks.add_webhook(store.db, ALICE, URL, EVENTS)] * 6)
    assert sum(isinstance(answer, Conflict) for answer in answers) == 5
    assert len(webhooks.list_webhooks(store.db, ALICE)) == webhooks.MAX_WEBHOOKS


def test_two_senders_never_hold_one_delivery(store: JobStore) -> None:
    hook, _ = webhooks.add_webhook(store.db, ALICE, URL, EVENTS)
    _add_deliveries(store, hook.id, 6)
    claimed = run_together(*[lambda: claim_due_deliveries(store.db, 10)] * 4)
    ids = [d.id for answer in claimed if isinstance(answer, list) for d in answer]
    assert len(ids) == len(set(ids)) >= 1


def test_old_deliveries_are_forgotten(store: JobStore) -> None:
    hook, _ = webhooks.add_webhook(store.db, ALICE, URL, EVENTS)
    _add_deliveries(store, hook.id, 2)
    record_delivery(store.db, _claim_one(store), delivered=True, outcome="HTTP 204")
    assert webhooks.delete_ended_deliveries(store.db) == 0
    with store.db.write() as connection:
        connection.execute(
            update(webhook_deliveries)
            .where(webhook_deliveries.c.state == "delivered")
            .values(ended_at=1.0)
        )
    assert webhooks.delete_ended_deliveries(store.db) == 1
    assert len(webhooks.list_deliveries(store.db, ALICE, hook.id).items) == 1


def test_pauses_add_up_to_a_day() -> None:
    pauses = [webhooks.compute_pause(n) for n in range(1, webhooks.MAX_ATTEMPTS)]
    assert 0.7 * 27 * 3600 < sum(pauses) < 1.3 * 27 * 3600
    assert pauses[0] < 13


def test_a_failed_input_is_counted_with_its_reason(store: JobStore) -> None:
    parent = make_planned_job("parent")
    store.submit(parent, make_planned_job("child", parent))
    store.fail(store.claim_one(), Failure.OUT_OF_MEMORY)
    process_outbox(store.db)
    assert _totals(store)["job_failures"] == {
        (STAGE, "out_of_memory"): 1,
        (STAGE, "input_failed"): 1,
    }
