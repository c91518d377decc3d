"""The loop that sends what is due, over a real store and a real receiver."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from services.webhooks import sender
from services.webhooks.address import parse_networks
from services.webhooks.request import DeliveryError, MessageSender
from services.webhooks.sender import WebhookSender
from shared.jobs import webhooks
from shared.jobs.outbox_reader import process_outbox
from shared.jobs.webhook_events import EVENTS
from shared.jobs.webhooks import DueDelivery
from tests.support.job_store import ALICE, BOB, JobStore, make_planned_job
from tests.support.migrated import open_migrated
from tests.support.waiting import wait_for as wait_within
from tests.support.webhook_receiver import answer_with, run_receiver


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    db = open_migrated(tmp_path / "palimpsest.db")
    yield JobStore(db)
    db.close()


def wait_for(condition: Callable[[], object]) -> None:
    wait_within(condition, 20, "the sender")


class _Receivers:
    """Answers by URL, and remembers what it was sent."""

    def __init__(self) -> None:
        self.sent: list[DueDelivery] = []
        self.blocked = threading.Event()

    def send(self, due: DueDelivery) -> int:
        self.sent.append(due)
        if "slow" in due.url:
            self.blocked.wait(20)
            raise DeliveryError("no answer within 10 s")
        return 204


def _list_states(store: JobStore, tenant: str, hook: str) -> list[str]:
    return [d.state for d in webhooks.list_deliveries(store.db, tenant, hook).items]


def test_an_audit_that_ends_is_told_to_a_receiver(store: JobStore, tmp_path: Path) -> None:
    answers = [answer_with(f"{code} x\r\ncontent-length: 0") for code in (503, 200)]
    stopped = threading.Event()
    with run_receiver(tmp_path, *answers) as receiver, structlog.testing.capture_logs() as logs:
        hook, secret = webhooks.add_webhook(store.db, ALICE, receiver.url, EVENTS[:3])
        audit, _ = store.submit_audit(make_planned_job("a"))
        store.finish(store.claim_one())
        process_outbox(store.db)
        messages = MessageSender(
            parse_networks("127.0.0.0/8"), receiver.trusted_by, look_up=lambda *_: ["127.0.0.1"]
        )
        thread = WebhookSender(store.db, messages, poll_s=0.02).start(stopped)
        wait_for(lambda: _list_states(store, ALICE, hook.id) == ["pending"] and receiver.received)
        wait_for(lambda: any(line.get("outcome") == "HTTP 503" for line in logs))
        with store.db.write() as connection:  # the pause is over
            connection.execute(webhooks.webhook_deliveries.update().values(next_at=1.0))
        wait_for(lambda: _list_states(store, ALICE, hook.id) == ["delivered"])
        stopped.set()
        thread.join(5)
        first, second = receiver.received
    assert first.body == second.body
    assert audit.encode() in first.body
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.is_signed_with(secret)
    assert second.is_signed_with(secret)
    assert [line["outcome"] for line in logs] == ["HTTP 503", "HTTP 200"]
    assert secret not in str(logs)
    assert receiver.url not in str(logs)  # a URL may carry a token of its receiver


def test_a_tenant_with_slow_receivers_leaves_room_for_others(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "MAX_ATTEMPTS_AT_ONCE", 3)
    monkeypatch.setattr(sender, "MAX_ATTEMPTS_OF_TENANT", 2)
    slow = [
        webhooks.add_webhook(store.db, ALICE, f"https://slow.example/{n}", EVENTS)[0].id
        for n in range(5)
    ]
    quick = webhooks.add_webhook(store.db, BOB, "https://quick.example/", EVENTS)[0].id
    for hook in slow:
        webhooks.add_test_delivery(store.db, ALICE, hook)
    receivers, stopped = _Receivers(), threading.Event()
    WebhookSender(store.db, receivers, poll_s=0.02).start(stopped)
    try:
        wait_for(lambda: len(receivers.sent) == 2)
        for n in range(1, 4):
            webhooks.add_test_delivery(store.db, BOB, quick)
            wait_for(lambda: _list_states(store, BOB, quick) == ["delivered"] * n)  # noqa: B023
        assert sum("slow" in due.url for due in receivers.sent) == 2
    finally:
        stopped.set()
        receivers.blocked.set()
    time.sleep(0.1)


def test_a_webhook_is_sent_to_again_after_a_thread_that_could_not_start(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook, _ = webhooks.add_webhook(store.db, ALICE, "https://a.example/", EVENTS)
    webhooks.add_test_delivery(store.db, ALICE, hook.id)
    receivers = _Receivers()
    loop = WebhookSender(store.db, receivers)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            loop.send_due()
    with store.db.write() as connection:  # its lease is over
        connection.execute(webhooks.webhook_deliveries.update().values(next_at=1.0))
    assert loop.send_due() == 1
    wait_for(lambda: _list_states(store, ALICE, hook.id) == ["delivered"])


def test_a_defect_in_one_attempt_ends_nothing_else(store: JobStore) -> None:
    hook, _ = webhooks.add_webhook(store.db, ALICE, "https://a.example/", EVENTS)
    webhooks.add_test_delivery(store.db, ALICE, hook.id)

    class Broken:
        def send(self, due: DueDelivery) -> int:
            raise ZeroDivisionError

    stopped = threading.Event()
    with structlog.testing.capture_logs():
        thread = WebhookSender(store.db, Broken(), poll_s=0.02).start(stopped)
        wait_for(
            lambda: webhooks.list_deliveries(store.db, ALICE, hook.id).items[0].outcome is not None
        )
        assert thread.is_alive()
        stopped.set()
        thread.join(5)
    (delivery,) = webhooks.list_deliveries(store.db, ALICE, hook.id).items
    assert (delivery.state, delivery.outcome) == ("pending", "internal error")
