"""`python -m services.reconciler`: puts lost attempts back and rings bells that were lost. Any number may run."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Mapping
from typing import Protocol

import structlog

from shared import logs
from shared.config import Settings, load_settings
from shared.errors import PalimpsestError, TransientError
from shared.jobs import fleet, reconcile
from shared.jobs.database import Database
from shared.jobs.migrations import require_current
from shared.jobs.queue import Bell, CeleryBell, make_celery
from shared.jobs.reconcile import Watch

log = structlog.get_logger()


class Depths(Protocol):
    """How many bells lie on a stage's queue."""

    def __call__(self, stage: str) -> int: ...


BELLS = 2  # that lie ready for each live worker of a stage, while there are jobs: never one a job


def missing_bells(claimable: Mapping[str, int], depth: Depths) -> dict[str, int]:
    """Bells to ring so that one lies on the queue for each job that is counted."""
    return {stage: more for stage, n in claimable.items() if n and (more := n - depth(stage)) > 0}


def look(db: Database, bell: Bell, depth: Depths, settings: Settings, watch: Watch) -> None:
    """One round."""
    if shortened := reconcile.bound_times(db, settings.lease, settings.retry_backoff_s):
        log.warning("the job store's clock was set back: leases and pauses shortened", jobs=shortened)
    for job in reconcile.expire_leases(db, watch, settings.max_lost, settings.retry_backoff_s):
        log.warning("lease expired", job=job)
    reconcile.finish_cancels(db)
    enough = {stage: BELLS * n for stage, n in fleet.live_by_stage(db).items()}
    for stage, n in missing_bells(reconcile.count_claimable(db, enough), depth).items():
        for _ in range(n):
            bell.ring(stage)
    if watch.set_back:  # last: it is the longest, and the least urgent
        watch.set_back = bool(moved := reconcile.bound_ages(db))
        if moved:
            log.warning("the job store's clock was set back: what was queued is not left behind", jobs=moved)


def main() -> int:
    """Look every few seconds until told to end; 2 when it cannot start."""
    logs.setup()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        settings = load_settings()
        db = Database(settings.database_url)
        require_current(db)
    except PalimpsestError as error:
        sys.stderr.write(f"reconciler: {error}\n")
        return 2
    bell = CeleryBell(make_celery(settings.broker_url.get_secret_value()))
    watch = Watch(settings.lease, settings.reconcile_every)
    while not ended.wait(settings.reconcile_every):
        try:
            look(db, bell, bell.lying, settings, watch)
        except TransientError as error:
            log.warning("the job store is away; trying again", error=str(error))
        except Exception as error:  # whatever kombu and redis raise when the broker is away
            log.warning("bells not rung; trying again", error=f"{type(error).__name__}: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
