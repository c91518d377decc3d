"""Sends the webhook messages that are due, in threads of its own: a slow receiver slows nothing
else."""

from __future__ import annotations

import threading
from typing import Protocol

import structlog

from services.webhooks.request import DeliveryError
from shared.errors import PalimpsestError
from shared.jobs.database import Database
from shared.jobs.webhooks import (
    DueDelivery,
    claim_due_deliveries,
    delete_ended_deliveries,
    record_delivery,
)

log = structlog.get_logger()

MAX_ATTEMPTS_AT_ONCE = 16
MAX_ATTEMPTS_OF_TENANT = 4  # at once, so that a tenant's slow receivers leave room for others
POLL_S = 1.0  # between two looks when nothing was due
CLEAN_EVERY = 600  # looks between two removals of old deliveries


class SendsMessages(Protocol):
    """Sends one message; returns the status, or raises DeliveryError."""

    def send(self, due: DueDelivery) -> int: ...


class WebhookSender:
    """The loop; of each webhook one attempt at a time. Daemon threads: what a process that stops
    leaves unfinished is due again after its lease."""

    def __init__(self, db: Database, messages: SendsMessages, poll_s: float = POLL_S) -> None:
        self._db, self._messages, self._poll_s = db, messages, poll_s
        self._lock = threading.Lock()
        self._busy: dict[str, str] = {}  # the tenant of each webhook that is being sent to
        self._turns: dict[str, int] = {}  # the number of each tenant's last turn
        self._turn_count = 0
        self._free = threading.Event()

    def start(self, stopped: threading.Event) -> threading.Thread:
        """Send until `stopped`, in a thread."""
        thread = threading.Thread(target=self._run, args=(stopped,), name="webhooks", daemon=True)
        thread.start()
        return thread

    def _run(self, stopped: threading.Event) -> None:
        looks = 0
        while not stopped.is_set():
            self._free.clear()
            try:
                sent = self.send_due()
                if looks % CLEAN_EVERY == 0:
                    delete_ended_deliveries(self._db)
                looks += 1
            except PalimpsestError as error:
                sent = 0
                log.warning("webhooks are not sent; retrying", error=str(error))
            except Exception as error:  # a defect must not end all sending
                sent = 0
                log.exception("webhooks are not sent; retrying", error=type(error).__name__)
            if not sent:
                self._free.wait(self._poll_s)

    def send_due(self) -> int:
        """Begin to send what is due and may be sent now; returns how many attempts were begun."""
        with self._lock:
            busy = dict(self._busy)
        room = MAX_ATTEMPTS_AT_ONCE - len(busy)
        if not room:
            return 0
        claimed = claim_due_deliveries(
            self._db, room, busy=busy, per_tenant=MAX_ATTEMPTS_OF_TENANT, turns=self._turns
        )
        for due in claimed:
            self._turn_count += 1
            self._turns[due.tenant] = self._turn_count
            with self._lock:
                self._busy[due.webhook] = due.tenant
            try:
                threading.Thread(target=self._attempt, args=(due,), daemon=True).start()
            except RuntimeError:  # no more threads: it is due again after its lease
                with self._lock:
                    del self._busy[due.webhook]
                raise
        return len(claimed)

    def _attempt(self, due: DueDelivery) -> None:
        logger = log.bind(
            webhook=due.webhook, delivery=due.id, tenant=due.tenant, attempt=due.attempt
        )
        try:
            delivered, outcome = True, f"HTTP {self._messages.send(due)}"
        except DeliveryError as error:
            delivered, outcome = False, str(error)
        except Exception as error:
            delivered, outcome = False, "internal error"
            logger.exception("sending a webhook failed", error=type(error).__name__)
        try:
            record_delivery(self._db, due, delivered=delivered, outcome=outcome)
            logger.info("webhook sent" if delivered else "webhook not delivered", outcome=outcome)
        except PalimpsestError as error:
            logger.warning("the outcome of a webhook was not recorded", error=str(error))
        finally:
            with self._lock:
                del self._busy[due.webhook]
            self._free.set()
