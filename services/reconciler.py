"""`python -m services.reconciler`: requeues jobs of lost attempts, re-sends lost wake-ups, removes
what was kept long enough and what deletions have left, counts what has ended, and sends webhooks.

Any number of reconcilers may run at once.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

import structlog
from httpx import create_ssl_context

from services.webhooks.address import parse_networks
from services.webhooks.request import MessageSender
from services.webhooks.sender import WebhookSender
from shared import logs
from shared.artifacts import ArtifactStore
from shared.config import Settings, load_settings
from shared.errors import Conflict, PalimpsestError, TransientError
from shared.jobs import reconcile, worker_registry
from shared.jobs.collector import Collector
from shared.jobs.database import Database
from shared.jobs.erasure import finish_erasures
from shared.jobs.migrations import require_current_schema
from shared.jobs.outbox_reader import process_outbox
from shared.jobs.queries import find_log_fields
from shared.jobs.queue import CeleryWakeup, WakeupQueue, make_celery
from shared.jobs.reconcile import ExpiryGuard
from shared.jobs.retention import Retention

log = structlog.get_logger()

SERVICE_NAME = "reconciler"
ERASURE_S = 2.0  # seconds of a round for bytes that deletions have left


class QueueDepth(Protocol):
    """The number of wake-ups on a stage's queue."""

    def __call__(self, stage: str) -> int: ...


# wake-ups on the queue for each live worker of a stage while there are jobs, not one per job
WAKEUPS_PER_WORKER = 2


def count_missing_wakeups(claimable: Mapping[str, int], depth: QueueDepth) -> dict[str, int]:
    """How many wake-ups to send per stage, so that the queue has one for each counted job."""
    return {stage: more for stage, n in claimable.items() if n and (more := n - depth(stage)) > 0}


def reconcile_once(
    db: Database, wakeup: WakeupQueue, depth: QueueDepth, settings: Settings, guard: ExpiryGuard
) -> None:
    """Do one round of reconciliation."""
    if shortened_count := reconcile.clamp_future_times(
        db, settings.lease_s, settings.retry_backoff_s
    ):
        log.warning(
            "the job store's clock was set back: leases and delays shortened", jobs=shortened_count
        )
    for expired in reconcile.expire_all_leases(
        db, guard, settings.max_lost_attempts, settings.retry_backoff_s
    ):
        for fields in find_log_fields(db, expired):
            log.warning("lease expired", **fields)
    reconcile.finish_cancels(db)
    limits = {
        stage: WAKEUPS_PER_WORKER * n
        for stage, n in worker_registry.count_live_by_stage(db).items()
    }
    for stage, n in count_missing_wakeups(reconcile.count_claimable(db, limits), depth).items():
        for _ in range(n):
            wakeup.publish(stage)
    if guard.clock_set_back:  # last, as it takes longest and is the least urgent
        guard.clock_set_back = bool(shifted_count := reconcile.shift_future_queue_times(db))
        if shifted_count:
            log.warning(
                "the job store's clock was set back: queue times adjusted", jobs=shifted_count
            )


def run_round(
    db: Database,
    artifacts: ArtifactStore,
    wakeup: WakeupQueue,
    depth: QueueDepth,
    settings: Settings,
    guard: ExpiryGuard,
    collector: Collector,
) -> None:
    """Do everything once. Whatever goes wrong in one part, such as a broker that is away, is
    logged and tried again in the next round, and the other parts are done."""

    def count() -> None:
        worker_registry.record_service_heartbeat(db, SERVICE_NAME)
        process_outbox(db)

    def collect() -> None:
        if removed := collector.collect():
            log.info("removed what was kept long enough", **removed)

    def finish() -> None:
        if not finish_erasures(db, artifacts, ends_at=time.monotonic() + ERASURE_S):
            log.info(
                "traces of a deletion are left: it goes on, or other transactions are in the way"
            )

    _try("what has ended was not counted", count)
    try:
        reconcile_once(db, wakeup, depth, settings, guard)
    except TransientError as error:
        log.warning("a store is unreachable; retrying", error=str(error))
    except Exception as error:  # whatever kombu and redis raise when the broker is away
        log.warning("wake-ups were not sent; retrying", error=f"{type(error).__name__}: {error}")
    _try("what has expired was not removed", collect)
    _try("what deletions have left was not removed", finish)


def _try(failure: str, part: Callable[[], None]) -> None:
    try:
        part()
    except TransientError as error:
        log.warning(f"{failure}; retrying", error=str(error))
    except Exception as error:
        log.exception(f"{failure}; retrying", error=type(error).__name__)


def main(arguments: list[str] | None = None) -> int:
    """Reconcile every few seconds until stopped; returns 2 if it cannot start."""
    argparse.ArgumentParser(prog="python -m services.reconciler", description=__doc__).parse_args(
        arguments
    )
    logs.configure_logging()
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    try:
        settings = load_settings()
        db = Database(settings.database_url)
        require_current_schema(db)
        if db.is_pooled:
            raise Conflict(
                "the reconciler rewrites tables after deletions and needs connections of its own: "
                "set PALIMPSEST_DATABASE_URL to the database server rather than to its pooler"
            )
        artifacts = ArtifactStore.from_url(settings.artifacts_url)
        messages = MessageSender(parse_networks(settings.webhook_allow), create_ssl_context())
    except PalimpsestError as error:
        sys.stderr.write(f"reconciler: {error}\n")
        return 2
    WebhookSender(db, messages).start(stopped)
    wakeup = CeleryWakeup(make_celery(settings.broker_url.get_secret_value()))
    collector = Collector(db, artifacts, Retention.from_settings(settings))
    guard = ExpiryGuard(settings.lease_s, settings.reconcile_interval_s)
    while not stopped.wait(settings.reconcile_interval_s):
        run_round(db, artifacts, wakeup, wakeup.depth, settings, guard, collector)
    return 0


if __name__ == "__main__":
    sys.exit(main())
